//! Loops of modules inside a crate: siblings that name each other's items, directly or around others.
//!
//! A module and the modules inside it may name each other: they are one thing in several files.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    assert_none,
    exceptions::{self, Exception, LOOPS},
    items::ModPath,
    source::{self, Source},
};

type Path = Vec<String>;

/// Modules of one crate with the paths that each names.
#[derive(Default)]
struct Crate<'a> {
    modules: BTreeMap<Path, Vec<&'a ModPath>>,
    /// Modules that only tests have.
    tests: BTreeSet<Path>,
}

/// Path of a file's module in its crate; none for files that are a crate of their own, such as tests.
fn module(file: &Source) -> Option<Path> {
    let rest = file.path.strip_prefix(&format!("{}/src/", file.package))?;
    let mut path: Path = rest.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    if path.first().is_some_and(|first| first == "bin") {
        return None;
    }
    let last = path.last()?;
    let is_root = path.len() == 1 && (last == "lib" || last == "main");
    if is_root || last == "mod" {
        path.pop();
    }
    Some(path)
}

impl<'a> Crate<'a> {
    fn add(&mut self, path: Path, file: &'a Source) {
        let tests = file.items.test_modules.iter();
        self.tests
            .extend(tests.map(|name| path.iter().cloned().chain([name.clone()]).collect()));
        self.modules.entry(path).or_default().extend(&file.items.paths);
    }

    fn is_for_tests(&self, path: &[String]) -> bool {
        (1..=path.len()).any(|length| self.tests.contains(&path[..length]))
    }

    /// The module that a path in `module` leads to, through re-exports.
    fn target(&self, module: &[String], path: &ModPath, depth: usize) -> Option<Path> {
        let mut at: Path = module.iter().chain(&path.inline).cloned().collect();
        let mut segments = path.segments.iter().peekable();
        let is_relative = segments
            .peek()
            .is_some_and(|first| *first == "self" || *first == "super");
        if segments.next_if(|first| *first == "crate").is_some() {
            at.clear();
        } else if is_relative {
            while let Some(segment) = segments.next_if(|segment| *segment == "self" || *segment == "super") {
                if segment == "super" {
                    at.pop()?;
                }
            }
        } else {
            // A name in scope: a module below this one, or something that a `use` of this file has led to already.
            let first = path.segments.first()?;
            let below: Path = at.iter().cloned().chain([first.clone()]).collect();
            if !self.modules.contains_key(&below) {
                return None;
            }
        }
        at.extend(segments.cloned());
        self.resolve(at, depth)
    }

    /// The module of an item's full path.
    fn resolve(&self, mut path: Path, depth: usize) -> Option<Path> {
        let mut rest = Vec::new();
        while !self.modules.contains_key(&path) {
            rest.push(path.pop()?);
        }
        let Some(name) = rest.pop().filter(|_| depth > 0) else {
            return Some(path);
        };
        let exports = self.modules[&path].iter();
        let mut exported = exports.filter(|export| export.inline.is_empty() && export.name.as_ref() == Some(&name));
        let target = exported.next().and_then(|export| self.target(&path, export, depth - 1));
        Some(target.unwrap_or(path))
    }

    /// Edges between the children of each module: one names items of the other.
    fn edges(&self) -> BTreeMap<Path, BTreeMap<&str, BTreeSet<String>>> {
        let mut edges: BTreeMap<Path, BTreeMap<&str, BTreeSet<String>>> = BTreeMap::new();
        for (module, paths) in self.modules.iter().filter(|(path, _)| !self.is_for_tests(path)) {
            for target in paths.iter().filter_map(|path| self.target(module, path, 4)) {
                let common = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(common), target.get(common))
                    && !self.is_for_tests(&target)
                {
                    let children = edges.entry(module[..common].to_vec()).or_default();
                    children.entry(from).or_default().insert(to.clone());
                }
            }
        }
        edges
    }

    /// The loops, as `parent::{a, b}`.
    fn loops(&self) -> Vec<String> {
        let mut loops = BTreeSet::new();
        for (parent, children) in self.edges() {
            let reach = |from: &str| {
                let (mut found, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
                while let Some(child) = open.pop() {
                    for next in children.get(child.as_str()).into_iter().flatten() {
                        if found.insert(next.clone()) {
                            open.push(next.clone());
                        }
                    }
                }
                found
            };
            for child in children.keys().filter(|child| reach(child).contains(**child)) {
                let around = reach(child).into_iter();
                let members: Vec<_> = around.filter(|other| reach(other).contains(*child)).collect();
                let inside = format!("{{{}}}", members.join(", "));
                let path: Vec<&str> = parent.iter().map(AsRef::as_ref).chain([inside.as_str()]).collect();
                loops.insert(path.join("::"));
            }
        }
        loops.into_iter().collect()
    }
}

/// All loops of the workspace, as `package: parent::{a, b}`.
fn all() -> Vec<String> {
    let mut crates: BTreeMap<&str, Crate<'_>> = BTreeMap::new();
    for file in source::all() {
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        if let Some(path) = module(file)
            && (!is_test || file.package.starts_with("tests/"))
        {
            crates.entry(&file.package).or_default().add(path, file);
        }
    }
    let loops = |(package, modules): (&&str, &Crate<'_>)| {
        let loops = modules.loops().into_iter();
        loops.map(|found| format!("{package}: {found}")).collect::<Vec<_>>()
    };
    crates.iter().flat_map(loops).collect()
}

#[test]
fn modules_do_not_go_in_circles() {
    let mut found = all();
    found.retain(|found| exceptions::is_checked(found) && !LOOPS.iter().any(|exception| exception.what == found));
    assert_none("modules side by side do not name each other in a circle", &found);
}

#[test]
fn loop_exceptions_are_needed() {
    let found = all();
    let idle = LOOPS.iter().filter(|e: &&Exception| !found.iter().any(|f| f == e.what));
    assert_none("these exceptions are not needed", &exceptions::list(idle));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loops(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(name, text)| Source::new(format!("p/src/{name}.rs"), "p".into(), (*text).into()))
            .collect();
        let mut found = Crate::default();
        for source in &sources {
            found.add(module(source).expect("a module"), source);
        }
        found.loops()
    }

    #[test]
    fn finds_a_loop_around_several_modules() {
        let found = loops(&[
            ("lib", "mod a; mod b; mod c; mod d;"),
            ("a", "use crate::b::B; use crate::d::D;"),
            ("b/deep", "fn f() { super::super::c::g() }"),
            ("b", "mod deep;"),
            ("c", "use super::a;"),
            ("d", ""),
        ]);
        assert_eq!(found, ["{a, b, c}"]);
    }

    #[test]
    fn follows_reexports_and_ignores_tests_and_parents() {
        let reexport = [
            ("lib", "mod a; mod b; pub use b::B;"),
            ("a", "use crate::B;"),
            ("b", "use crate::a::A;"),
        ];
        assert_eq!(loops(&reexport), ["{a, b}"]);
        let tests = [
            ("lib", "mod a; mod b;"),
            ("a", "mod inner; use crate::b::B; use inner::I;"),
            ("a/inner", "use super::A;"),
            ("b", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ];
        assert_eq!(loops(&tests), Vec::<String>::new());
    }
}
