//! The functions that templates may call, with Helm's names and meaning. The list is closed: a chart that needs another one
//! gets it here, and in the comparison with the real Helm.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gotmpl::{FuncMap, Template, TemplateError, Value as Cell};
use serde_json::Value;

/// The functions, and the named templates that `include` finds.
pub(crate) struct Functions {
    table: FuncMap,
    /// Held here only: the functions refer to it without keeping it, or it would never go.
    _library: Arc<OnceLock<Template>>,
}

impl Functions {
    pub(crate) fn table(&self) -> FuncMap {
        self.table.clone()
    }
}

/// Makes them; what any of `sources` defines can be included.
pub(crate) fn all(sources: &[(&str, &str)]) -> Result<Functions, TemplateError> {
    let library = Arc::new(OnceLock::<Template>::new());
    let weak = Arc::downgrade(&library);
    let mut table = pure();
    table.insert(
        "include".into(),
        Arc::new(move |arguments: &[Cell]| {
            let library = weak.upgrade();
            let template = library.as_deref().and_then(OnceLock::get);
            let template = template.expect("the library lives as long as what is rendered");
            let text = template.execute_template_to_string(&text(arguments, 0), argument(arguments, 1))?;
            Ok(cell(&Value::String(text)))
        }),
    );
    let mut template = Template::new("library").funcs(table.clone());
    for (_, source) in sources {
        template = template.parse(source)?;
    }
    library.get_or_init(|| template);
    Ok(Functions {
        table,
        _library: library,
    })
}

/// Those that look at their arguments only.
fn pure() -> FuncMap {
    type Function = fn(&[Cell]) -> Result<Cell, TemplateError>;
    let functions: [(&str, Function); 7] = [
        ("toYaml", |arguments| {
            let yaml = serde_yaml_ng::to_string(&json(argument(arguments, 0)))
                .map_err(|error| TemplateError::Exec(error.to_string()))?;
            string(yaml.trim_end())
        }),
        ("indent", |arguments| string(&indented(arguments))),
        ("nindent", |arguments| string(&format!("\n{}", indented(arguments)))),
        ("quote", |arguments| {
            string(&Value::String(text(arguments, 0)).to_string())
        }),
        ("default", |arguments| {
            let given = argument(arguments, 1);
            Ok(if given.is_truthy() {
                given
            } else {
                argument(arguments, 0)
            }
            .clone())
        }),
        ("b64enc", |arguments| {
            string(&BASE64_STANDARD.encode(text(arguments, 0)))
        }),
        ("required", |arguments| match argument(arguments, 1) {
            given if text(arguments, 1).is_empty() || matches!(given, Cell::Nil) => {
                Err(TemplateError::Exec(text(arguments, 0)))
            }
            given => Ok(given.clone()),
        }),
    ];
    functions
        .into_iter()
        .map(|(name, function)| (name.to_owned(), Arc::new(function) as gotmpl::ValueFunc))
        .collect()
}

/// What an error says, without what the template language puts before it.
pub(crate) fn sentence(error: &TemplateError) -> String {
    match error {
        TemplateError::Exec(reason) => reason.clone(),
        other => other.to_string(),
    }
}

fn argument(arguments: &[Cell], index: usize) -> &Cell {
    arguments.get(index).unwrap_or(&Cell::Nil)
}

fn text(arguments: &[Cell], index: usize) -> String {
    match argument(arguments, index) {
        Cell::Nil => String::new(),
        other => other.to_string(),
    }
}

fn string(text: &str) -> Result<Cell, TemplateError> {
    Ok(cell(&Value::String(text.to_owned())))
}

/// Every line moved right, empty ones too, as Helm does.
fn indented(arguments: &[Cell]) -> String {
    let width = argument(arguments, 0).as_int().unwrap_or_default();
    let margin = " ".repeat(usize::try_from(width).unwrap_or_default());
    let text = text(arguments, 1);
    let lines = text.split('\n').map(|line| format!("{margin}{line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// As the templates see it.
pub(crate) fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Nil,
        Value::Bool(truth) => Cell::Bool(*truth),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cell::Float(number.as_f64().unwrap_or_default()), Cell::Int),
        Value::String(text) => Cell::String(text.as_str().into()),
        Value::Array(items) => Cell::List(items.iter().map(cell).collect()),
        Value::Object(entries) => Cell::Map(Arc::new(
            entries
                .iter()
                .map(|(key, value)| (key.as_str().into(), cell(value)))
                .collect(),
        )),
    }
}

/// And back.
fn json(cell: &Cell) -> Value {
    match cell {
        Cell::Bool(truth) => Value::Bool(*truth),
        Cell::Int(number) => (*number).into(),
        Cell::Uint(number) => (*number).into(),
        Cell::Float(number) => (*number).into(),
        Cell::String(text) => Value::String(text.to_string()),
        Cell::List(items) => items.iter().map(json).collect(),
        Cell::Map(entries) => entries
            .iter()
            .map(|(key, value)| (key.to_string(), json(value)))
            .collect(),
        _ => Value::Null,
    }
}
