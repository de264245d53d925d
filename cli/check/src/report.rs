//! What people and programs read: Linkerd's table, its short form, and its JSON.

use serde::Serialize;

/// How a check ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Result {
    /// As it should be.
    Success,
    /// It should be looked at.
    Warning,
    /// Something does not work.
    Error,
}

/// In which form.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// All checks.
    #[default]
    Table,
    /// Those that are not as they should be.
    Short,
    /// JSON, at the end.
    Json,
}

/// A decided check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What was checked.
    pub description: String,
    /// What helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How it ended.
    pub result: Result,
}

/// The decided checks of a category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CategoryReport {
    /// Its name.
    #[serde(rename = "categoryName")]
    pub name: String,
    /// Its checks.
    pub checks: Vec<CheckReport>,
}

/// All that was decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By category.
    pub categories: Vec<CategoryReport>,
}

#[derive(Serialize)]
struct Json<'a> {
    success: bool,
    categories: &'a [CategoryReport],
}

impl CheckReport {
    /// Its lines in a table.
    pub fn render(&self) -> String {
        let sign = match self.result {
            Result::Success => "√",
            Result::Warning => "‼",
            Result::Error => "×",
        };
        let mut text = format!("{sign} {}\n", self.description);
        for line in self.error.iter().flat_map(|error| error.lines()) {
            text.push_str(&format!("    {line}\n"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("    hint: {hint}\n"));
        }
        text
    }
}

impl Report {
    /// Whether nothing is an error.
    pub fn is_success(&self) -> bool {
        let mut checks = self.categories.iter().flat_map(|category| &category.checks);
        checks.all(|check| check.result != Result::Error)
    }

    /// The heading of a category.
    pub fn heading(name: &str) -> String {
        format!("{name}\n{}\n", "-".repeat(name.chars().count()))
    }

    /// The last line.
    pub fn status(&self) -> String {
        format!(
            "Status check results are {}\n",
            if self.is_success() { "√" } else { "×" }
        )
    }

    /// Everything, in a form.
    pub fn render(&self, format: Format) -> String {
        if format == Format::Json {
            let json = Json {
                success: self.is_success(),
                categories: &self.categories,
            };
            return serde_json::to_string_pretty(&json).expect("plain values") + "\n";
        }
        let mut text = String::new();
        for category in &self.categories {
            let checks = category.checks.iter();
            let shown = checks.filter(|check| format == Format::Table || check.result != Result::Success);
            let lines: String = shown.map(CheckReport::render).collect();
            if !lines.is_empty() {
                text.push_str(&format!("{}{lines}\n", Self::heading(&category.name)));
            }
        }
        text + &self.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let check = |description: &str, result, error: Option<&str>| CheckReport {
            description: description.to_owned(),
            hint: error.map(|_| "do this".to_owned()),
            error: error.map(str::to_owned),
            result,
        };
        Report {
            categories: vec![
                CategoryReport {
                    name: "kubernetes-api".to_owned(),
                    checks: vec![check("can query", Result::Success, None)],
                },
                CategoryReport {
                    name: "linkerd-config".to_owned(),
                    checks: vec![
                        check("exists", Result::Success, None),
                        check("is new", Result::Warning, Some("it is old")),
                        check("is ours", Result::Error, Some("it is not")),
                    ],
                },
            ],
        }
    }

    #[test]
    fn the_table_is_linkerds() {
        let expected = "\
kubernetes-api
--------------
√ can query

linkerd-config
--------------
√ exists
‼ is new
    it is old
    hint: do this
× is ours
    it is not
    hint: do this

Status check results are ×
";
        assert_eq!(report().render(Format::Table), expected);
    }

    #[test]
    fn short_shows_what_is_wrong_only() {
        let text = report().render(Format::Short);
        assert!(text.starts_with("linkerd-config\n--------------\n‼ is new"), "{text}");
        assert_eq!(Report::default().render(Format::Short), "Status check results are √\n");
    }

    #[test]
    fn the_json_has_linkerds_keys() {
        let json: serde_json::Value = serde_json::from_str(&report().render(Format::Json)).expect("JSON");
        assert_eq!(json["success"], false);
        assert_eq!(json["categories"][0]["categoryName"], "kubernetes-api");
        let check = &json["categories"][1]["checks"][2];
        assert_eq!(check["result"], "error");
        assert_eq!(
            (&check["error"], &check["hint"]),
            (&"it is not".into(), &"do this".into())
        );
    }
}
