//! Reports in Linkerd's formats: table, short table, JSON.

use serde::Serialize;

/// Result of a check.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    /// Passed.
    Success,
    /// Needs attention.
    Warning,
    /// Something does not work.
    Error,
}

/// Format of a report.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// All checks.
    #[default]
    Table,
    /// Warnings and errors only.
    Short,
    /// JSON.
    Json,
}

/// Decided check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Description of the check.
    pub description: String,
    /// Remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Result.
    pub result: CheckResult,
}

/// Decided checks of a category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CategoryReport {
    /// Name of the category.
    #[serde(rename = "categoryName")]
    pub name: String,
    /// Checks, in order.
    pub checks: Vec<CheckReport>,
}

/// Report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Checks by category.
    pub categories: Vec<CategoryReport>,
}

#[derive(Serialize)]
struct Json<'a> {
    success: bool,
    categories: &'a [CategoryReport],
}

impl CheckReport {
    /// Renders the lines of a table.
    pub fn render(&self) -> String {
        let sign = match self.result {
            CheckResult::Success => "√",
            CheckResult::Warning => "‼",
            CheckResult::Error => "×",
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
    /// Returns true if there are no errors.
    pub fn is_success(&self) -> bool {
        let mut checks = self.categories.iter().flat_map(|category| &category.checks);
        checks.all(|check| check.result != CheckResult::Error)
    }

    /// Renders the heading of a category.
    pub fn heading(name: &str) -> String {
        format!("{name}\n{}\n", "-".repeat(name.chars().count()))
    }

    /// Renders the last line.
    pub fn status(&self) -> String {
        format!(
            "Status check results are {}\n",
            if self.is_success() { "√" } else { "×" }
        )
    }

    /// Renders the report.
    pub fn render(&self, format: ReportFormat) -> String {
        if format == ReportFormat::Json {
            let json = Json {
                success: self.is_success(),
                categories: &self.categories,
            };
            return serde_json::to_string_pretty(&json).expect("plain values") + "\n";
        }
        let mut text = String::new();
        for category in &self.categories {
            let checks = category.checks.iter();
            let shown = checks.filter(|check| format == ReportFormat::Table || check.result != CheckResult::Success);
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
                    checks: vec![check("can query", CheckResult::Success, None)],
                },
                CategoryReport {
                    name: "linkerd-config".to_owned(),
                    checks: vec![
                        check("exists", CheckResult::Success, None),
                        check("is new", CheckResult::Warning, Some("it is old")),
                        check("is ours", CheckResult::Error, Some("it is not")),
                    ],
                },
            ],
        }
    }

    #[test]
    fn renders_the_table_of_linkerd() {
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
        assert_eq!(report().render(ReportFormat::Table), expected);
    }

    #[test]
    fn short_format_omits_passed_checks() {
        let text = report().render(ReportFormat::Short);
        assert!(text.starts_with("linkerd-config\n--------------\n‼ is new"), "{text}");
        assert_eq!(
            Report::default().render(ReportFormat::Short),
            "Status check results are √\n"
        );
    }

    #[test]
    fn json_has_the_keys_of_linkerd() {
        let json: serde_json::Value = serde_json::from_str(&report().render(ReportFormat::Json)).expect("JSON");
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
