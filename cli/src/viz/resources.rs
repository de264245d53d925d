//! Resources named on the command line: `deploy`, `deploy/web`, `deploy web api`, `deploy/web po/x`, `all`.

use anyhow::{Result, bail};
use viz_api::{Kind, Resource};

/// Parses one or more resources.
pub(super) fn parse(texts: &[String]) -> Result<Vec<Resource>> {
    let (first, rest) = texts.split_first().expect("clap requires one");
    if texts.iter().any(|text| text == "all") {
        if !rest.is_empty() {
            bail!("\"all\" cannot be combined with other resources");
        }
        return Ok(Kind::STAT_ALL.map(Resource::all).into());
    }
    if first.contains('/') {
        return texts.iter().map(|text| named(text)).collect();
    }
    let kind: Kind = first.parse()?;
    if let Some(bad) = rest.iter().find(|name| name.contains('/')) {
        bail!("unexpected {bad:?} after the kind {first:?}: write either KIND NAME... or KIND/NAME...");
    }
    Ok(if rest.is_empty() {
        vec![Resource::all(kind)]
    } else {
        rest.iter().map(|n| Resource::named(kind, n)).collect()
    })
}

/// Parses exactly one resource.
pub(super) fn parse_one(texts: &[String]) -> Result<Resource> {
    let mut resources = parse(texts)?;
    if resources.len() != 1 {
        bail!("expected one resource: KIND, KIND/NAME or KIND NAME");
    }
    Ok(resources.remove(0))
}

fn named(text: &str) -> Result<Resource> {
    let resource: Resource = text.parse()?;
    if resource.name.is_none() {
        bail!("invalid resource {text:?}: expected KIND/NAME");
    }
    Ok(resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_resource_forms_of_kubectl() {
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
        assert!(parse("deploy po/x").is_err_and(|e| e.contains("unexpected \"po/x\" after the kind")));
        assert!(parse("deploy/web po").is_err_and(|e| e.contains("invalid resource \"po\"")));
        assert!(parse("banana").is_err_and(|e| e.contains("\"banana\"")));
    }
}
