//! Template functions, with Helm's names and semantics. The list is closed: a chart that needs another function gets it
//! here and in the comparison with the real Helm.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use gotmpl::{FuncMap, Template, TemplateError, Value as Cell};
use serde_json::Value;

/// Template functions, with the named templates for `include`.
pub(crate) struct Functions {
    table: FuncMap,
    /// The only strong reference: `include` holds a weak one, because a cycle would leak.
    _library: Arc<OnceLock<Template>>,
}

impl Functions {
    pub(crate) fn table(&self) -> FuncMap {
        self.table.clone()
    }
}

/// Builds the functions; `include` finds the templates that `sources` define.
pub(crate) fn all(sources: &[(&str, &str)]) -> Result<Functions, TemplateError> {
    let library = Arc::new(OnceLock::<Template>::new());
    let weak = Arc::downgrade(&library);
    let mut table = pure();
    table.insert(
        "include".into(),
        Arc::new(move |arguments: &[Cell]| {
            let library = weak.upgrade();
            let template = library.as_deref().and_then(OnceLock::get);
            let template = template.expect("the library outlives rendering");
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

/// Function of its arguments alone.
type Function = fn(&[Cell]) -> Result<Cell, TemplateError>;

/// Functions of their arguments alone.
fn pure() -> FuncMap {
    let functions: [(&str, Function); 12] = [
        ("toYaml", |arguments| {
            string(destination_yaml::write(&json(argument(arguments, 0))).trim_end())
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
        ("dict", |arguments| {
            let pairs = arguments.chunks_exact(2);
            let entries = pairs.map(|pair| (pair[0].to_string().into(), pair[1].clone()));
            Ok(Cell::Map(Arc::new(entries.collect())))
        }),
        ("omit", |arguments| match argument(arguments, 0) {
            Cell::Map(entries) => {
                let names: Vec<_> = arguments[1..].iter().map(Cell::to_string).collect();
                let kept = entries.iter().filter(|(key, _)| !names.contains(&key.to_string()));
                Ok(Cell::Map(Arc::new(
                    kept.map(|(key, value)| (key.clone(), value.clone())).collect(),
                )))
            }
            other => Ok(other.clone()),
        }),
        ("contains", |arguments| {
            let (part, whole) = (text(arguments, 0), text(arguments, 1));
            Ok(cell(&Value::Bool(whole.contains(&part))))
        }),
        ("int", |arguments| {
            // Helm reads numbers as floats, so charts convert explicitly.
            let number = argument(arguments, 0);
            let parsed = || text(arguments, 0).parse().unwrap_or_default();
            Ok(Cell::Int(number.as_int().unwrap_or_else(parsed)))
        }),
        ("ternary", |arguments| {
            let choice = usize::from(!argument(arguments, 2).is_truthy());
            Ok(argument(arguments, choice).clone())
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
        .chain(string_functions())
        .map(|(name, function)| (name.to_owned(), Arc::new(function) as gotmpl::ValueFunc))
        .collect()
}

/// Functions from string to string.
fn string_functions() -> [(&'static str, Function); 7] {
    [
        ("trim", |arguments| string(text(arguments, 0).trim())),
        ("trimSuffix", |arguments| {
            let (suffix, whole) = (text(arguments, 0), text(arguments, 1));
            string(whole.strip_suffix(&suffix).unwrap_or(&whole))
        }),
        ("replace", |arguments| {
            string(&text(arguments, 2).replace(&text(arguments, 0), &text(arguments, 1)))
        }),
        ("upper", |arguments| string(&text(arguments, 0).to_uppercase())),
        ("lower", |arguments| string(&text(arguments, 0).to_lowercase())),
        ("snakecase", |arguments| string(&snake(&text(arguments, 0)))),
        ("sha256sum", |arguments| string(&sha256(&text(arguments, 0)))),
    ]
}

/// Turns `keepAliveInterval` into `keep_alive_interval`. sprig also splits digits from letters, so charts must not pass
/// digits.
fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Returns the digest in hexadecimal.
fn sha256(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}

/// Returns an error's message without the template engine's prefix.
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

/// Indents every line, empty ones included, as Helm does.
fn indented(arguments: &[Cell]) -> String {
    let width = argument(arguments, 0).as_int().unwrap_or_default();
    let margin = " ".repeat(usize::try_from(width).unwrap_or_default());
    let text = text(arguments, 1);
    let lines = text.split('\n').map(|line| format!("{margin}{line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Converts JSON to a template value.
pub(crate) fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Nil,
        Value::Bool(boolean) => Cell::Bool(*boolean),
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

/// Converts a template value to JSON.
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
