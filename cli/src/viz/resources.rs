//! What people type to name resources: `deploy`, `deploy/web`, `deploy web api`, `deploy/web po/x`, `all`.

use anyhow::{Result, bail};
use viz_api::{Kind, Resource};

/// Reads the arguments of a statistic.
pub(super) fn parse(texts: &[String]) -> Result<Vec<Resource>> {
    let (first, rest) = texts.split_first().expect("clap requires one");
    if texts.iter().any(|text| text == "all") {
        if !rest.is_empty() {
            bail!("\"all\" stands alone");
        }
        return Ok(Kind::STAT_ALL.map(Resource::all).into());
    }
    if first.contains('/') {
        return texts.iter().map(|text| named(text)).collect();
    }
    let kind: Kind = first.parse()?;
    if let Some(bad) = rest.iter().find(|name| name.contains('/')) {
        bail!("{bad:?} follows the kind {first:?}: write either KIND NAME... or KIND/NAME...");
    }
    Ok(if rest.is_empty() {
        vec![Resource::all(kind)]
    } else {
        rest.iter().map(|n| Resource::named(kind, n)).collect()
    })
}

/// Reads the one resource of a tap.
pub(super) fn parse_one(texts: &[String]) -> Result<Resource> {
    let mut resources = parse(texts)?;
    if resources.len() != 1 {
        bail!("one resource at a time: KIND, KIND/NAME or KIND NAME");
    }
    Ok(resources.remove(0))
}

fn named(text: &str) -> Result<Resource> {
    let resource: Resource = text.parse()?;
    if resource.name.is_none() {
        bail!("{text:?} is not KIND/NAME");
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_of_kubectl_are_understood() {
        let parse = |text: &str| {
            let texts: Vec<String> = text.split(' ').map(str::to_owned).collect();
            parse(&texts)
                .map(|r| r.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|e| e.to_string())
        };
        assert_eq!(parse("deploy"), Ok(vec!["deployment".to_owned()]));
        assert_eq!(
            parse("deploy web api"),
            Ok(vec!["deployment/web".to_owned(), "deployment/api".to_owned()])
        );
        assert_eq!(
            parse("deploy/web po/x"),
            Ok(vec!["deployment/web".to_owned(), "pod/x".to_owned()])
        );
        assert_eq!(parse("all").map(|r| r.len()), Ok(9));
        assert!(parse("deploy po/x").is_err_and(|e| e.contains("\"po/x\" follows the kind")));
        assert!(parse("deploy/web po").is_err_and(|e| e.contains("\"po\" is not KIND/NAME")));
        assert!(parse("banana").is_err_and(|e| e.contains("\"banana\" is no resource kind")));
    }
}
