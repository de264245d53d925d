//! Items of a file as `syn` parses them: what is public, what types are called, which paths are named.

use proc_macro2::Span;
use syn::{
    Attribute, File, Ident, ItemMod, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

/// Items of one file, tests left out.
#[derive(Default)]
pub(crate) struct Items {
    pub(crate) items: Vec<Item>,
    /// Paths in `use` declarations and expressions.
    pub(crate) paths: Vec<ModPath>,
    /// Modules of this file that only tests have.
    pub(crate) test_modules: Vec<String>,
}

/// One item.
pub(crate) struct Item {
    /// Line that its name is on, from 0.
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) visibility: Scope,
    pub(crate) is_documented: bool,
}

/// Kinds of items, as far as a rule tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Type,
    Function,
    Constant,
    Macro,
    Module,
}

/// Scope that an item can be named in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Public,
    Crate,
    Less,
}

/// One path, with the inline modules that it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModPath {
    pub(crate) inline: Vec<String>,
    pub(crate) segments: Vec<String>,
    /// Name that a `use` gives to it; none for a path in an expression.
    pub(crate) name: Option<String>,
}

impl Items {
    pub(crate) fn new(file: &File) -> Self {
        let mut visitor = Visitor::default();
        visitor.visit_file(file);
        visitor.items
    }
}

#[derive(Default)]
struct Visitor {
    items: Items,
    inline: Vec<String>,
}

impl Visitor {
    fn item(&mut self, kind: Kind, name: &Ident, visibility: &Visibility, attributes: &[Attribute]) {
        self.push(kind, name, Scope::new(visibility), has_doc(attributes));
    }

    fn push(&mut self, kind: Kind, name: &Ident, visibility: Scope, is_documented: bool) {
        self.items.items.push(Item {
            line: line(name.span()),
            kind,
            name: name.to_string(),
            visibility,
            is_documented,
        });
    }

    fn path(&mut self, segments: Vec<String>, name: Option<String>) {
        self.items.paths.push(ModPath {
            inline: self.inline.clone(),
            segments,
            name,
        });
    }

    fn use_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, before);
                }
            }
            UseTree::Name(name) if name.ident == "self" => self.path(before.to_vec(), before.last().cloned()),
            UseTree::Name(name) => self.path(with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) => self.path(with(&rename.ident), Some(rename.rename.to_string())),
            UseTree::Glob(_) => self.path(before.to_vec(), None),
        }
    }
}

impl Scope {
    fn new(visibility: &Visibility) -> Self {
        match visibility {
            Visibility::Public(_) => Self::Public,
            Visibility::Restricted(restricted) if restricted.path.is_ident("crate") => Self::Crate,
            _ => Self::Less,
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item;
        if is_for_tests(attributes(item)) {
            if let Item::Mod(module) = item {
                self.items.test_modules.push(module.ident.to_string());
            }
            return;
        }
        match item {
            Item::Struct(i) => self.item(Kind::Type, &i.ident, &i.vis, &i.attrs),
            Item::Enum(i) => self.item(Kind::Type, &i.ident, &i.vis, &i.attrs),
            Item::Union(i) => self.item(Kind::Type, &i.ident, &i.vis, &i.attrs),
            Item::Trait(i) => {
                self.item(Kind::Type, &i.ident, &i.vis, &i.attrs);
                let scope = Scope::new(&i.vis);
                for item in &i.items {
                    if let syn::TraitItem::Fn(f) = item {
                        self.push(Kind::Function, &f.sig.ident, scope, has_doc(&f.attrs));
                    }
                }
            }
            Item::Type(i) => self.item(Kind::Type, &i.ident, &i.vis, &i.attrs),
            Item::Fn(i) => self.item(Kind::Function, &i.sig.ident, &i.vis, &i.attrs),
            Item::Const(i) => self.item(Kind::Constant, &i.ident, &i.vis, &i.attrs),
            Item::Static(i) => self.item(Kind::Constant, &i.ident, &i.vis, &i.attrs),
            Item::Macro(i) if i.attrs.iter().any(|a| a.path().is_ident("macro_export")) => {
                if let Some(name) = &i.ident {
                    self.push(Kind::Macro, name, Scope::Public, has_doc(&i.attrs));
                }
            }
            Item::Impl(i) if i.trait_.is_none() => {
                for item in &i.items {
                    match item {
                        syn::ImplItem::Fn(f) => self.item(Kind::Function, &f.sig.ident, &f.vis, &f.attrs),
                        syn::ImplItem::Const(c) => self.item(Kind::Constant, &c.ident, &c.vis, &c.attrs),
                        _ => {}
                    }
                }
            }
            Item::Use(i) => self.use_tree(&i.tree, &[]),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        // A module in a file of its own is documented there; another rule asks for that.
        if module.content.is_some() {
            self.item(Kind::Module, &module.ident, &module.vis, &module.attrs);
        }
        self.inline.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inline.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.path(segments.collect(), None);
        visit::visit_path(self, path);
    }
}

fn attributes(item: &syn::Item) -> &[Attribute] {
    use syn::Item;
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        Meta::NameValue(_) => false,
    })
}

fn has_doc(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

fn line(span: Span) -> usize {
    span.start().line - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        use crate::{a::{self, B}, c as d, e::*};
        /// Doc.
        pub struct S;
        impl S { pub(crate) fn f() { super::g() } }
        pub mod outer;
        #[cfg(test)]
        mod tests { pub struct T; }
        mod inline { pub(super) const C: u8 = super::D; }
    ";

    #[test]
    fn lists_items_without_those_of_tests() {
        let items = Items::new(&syn::parse_str(TEXT).expect("Rust"));
        let found: Vec<_> = items
            .items
            .iter()
            .map(|i| (&*i.name, i.kind, i.visibility, i.is_documented))
            .collect();
        assert_eq!(
            found,
            [
                ("S", Kind::Type, Scope::Public, true),
                ("f", Kind::Function, Scope::Crate, false),
                ("inline", Kind::Module, Scope::Less, false),
                ("C", Kind::Constant, Scope::Less, false),
            ]
        );
        assert_eq!(items.test_modules, ["tests"]);
    }

    #[test]
    fn lists_paths_with_the_names_they_give() {
        let items = Items::new(&syn::parse_str(TEXT).expect("Rust"));
        let found: Vec<_> = items
            .paths
            .iter()
            .map(|path| {
                format!(
                    "{}:{}:{:?}",
                    path.inline.join("::"),
                    path.segments.join("::"),
                    path.name
                )
            })
            .filter(|path| path.contains("::") && path.len() > 8)
            .collect();
        assert_eq!(
            found,
            [
                ":crate::a:Some(\"a\")",
                ":crate::a::B:Some(\"B\")",
                ":crate::c:Some(\"d\")",
                ":crate::e:None",
                ":super::g:None",
                "inline:super::D:None",
            ]
        );
    }
}
