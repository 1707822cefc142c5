//! Imports go down only: the layers drawn in `src/lib.rs` against the paths that the sources name.
//!
//! A module may import modules of lower layers. Within a layer: `a → b` in the drawing allows imports
//! to the right, `a | b` allows none, and names side by side may import each other, but never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{Source, below};

/// How the modules of one layer stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Imports go to the right.
    Arrow,
    /// No imports at all.
    Apart,
    /// Imports in any direction, without a circle.
    Together,
}

#[derive(Debug)]
struct Layer {
    number: u32,
    order: Order,
    modules: Vec<String>,
}

/// The drawing in the documentation of `src/lib.rs`.
fn layers(lib: &str) -> Vec<Layer> {
    let lines = lib.lines().filter_map(|line| line.strip_prefix("//!"));
    let drawing = lines.skip_while(|line| line.trim() != "```text").skip(1);
    let mut layers: Vec<Layer> = Vec::new();
    for line in drawing.take_while(|line| line.trim() != "```") {
        let line = line.trim();
        let (number, names) = match line.split_once("  ") {
            Some((first, rest)) if first.parse::<u32>().is_ok() => (first.parse().ok(), rest),
            Some(_) | None if line.chars().next().is_some_and(|c| c.is_ascii_digit()) => {
                let (first, rest) = line.split_once(' ').unwrap();
                (first.parse().ok(), rest)
            }
            Some(_) | None => (None, line),
        };
        // What stands behind a wide gap is explanation.
        let names = names.trim().split("   ").next().unwrap();
        let order = if names.contains('→') {
            Order::Arrow
        } else if names.contains('|') {
            Order::Apart
        } else {
            Order::Together
        };
        let modules = names.split(['→', '|', ' ']).filter(|name| !name.is_empty());
        let modules = modules.map(str::to_owned);
        match (number, layers.last_mut()) {
            (Some(number), _) => layers.push(Layer {
                number,
                order,
                modules: modules.collect(),
            }),
            (None, Some(layer)) => layer.modules.extend(modules),
            (None, None) => panic!("the drawing begins without a number: {line}"),
        }
    }
    layers
}

/// The top module that a file belongs to, and how deep the file's module is below the crate.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let path = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let top = path.split('/').next()?;
    (top != "lib").then(|| (top, path.split('/').count()))
}

/// The top modules of our crate that a piece of code names. Of the paths through `super`, which may
/// start within an inline module, only those that end in a known one.
fn imports(code: &str, depth: usize, is_known: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let to_the_top = "super::".repeat(depth);
    for root in ["crate::", "relay_agent::", to_the_top.as_str()] {
        for (at, _) in code.match_indices(root) {
            let is_longer_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let is_too_deep = root == to_the_top && code[..at].ends_with("super::");
            if is_longer_word || is_too_deep {
                continue;
            }
            let path = &code[at + root.len()..];
            let names = match path.strip_prefix('{') {
                Some(group) => group_members(group),
                None => first_word(path).into_iter().collect(),
            };
            found.extend(
                names
                    .into_iter()
                    .filter(|name| root != to_the_top || is_known(name)),
            );
        }
    }
    found
}

/// The first words of the members of `{a::b, c::{d, e}}`, given what follows the first brace.
fn group_members(group: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut open = 1;
    let mut at_start = true;
    for (index, c) in group.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            ',' if open == 1 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                members.extend(first_word(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    members
}

fn first_word(path: &str) -> Option<String> {
    let end = path
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(path.len());
    (end > 0 && path.starts_with(char::is_lowercase)).then(|| path[..end].to_owned())
}

/// What may not be, and the imports that were looked at.
fn check(
    layers: &[Layer],
    sources: &[Source],
) -> (Vec<String>, BTreeMap<String, BTreeSet<String>>) {
    let mut violations = Vec::new();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let place = |module: &str| {
        layers.iter().find_map(|layer| {
            let index = layer.modules.iter().position(|other| other == module)?;
            Some((layer, index))
        })
    };
    for source in sources {
        let Some((from, depth)) = module_of(&source.path) else {
            continue;
        };
        let Some((layer, index)) = place(from) else {
            violations.push(format!(
                "{}: {from} is in no layer of src/lib.rs",
                source.path
            ));
            continue;
        };
        for to in imports(&source.code(), depth, |name| place(name).is_some()) {
            if to == from {
                continue;
            }
            let Some((lower, other)) = place(&to) else {
                violations.push(format!(
                    "{}: imports {to}, which is in no layer",
                    source.path
                ));
                continue;
            };
            let is_allowed = lower.number < layer.number
                || lower.number == layer.number
                    && match layer.order {
                        Order::Arrow => index < other,
                        Order::Apart => false,
                        Order::Together => true,
                    };
            if !is_allowed {
                let (above, below) = (layer.number, lower.number);
                let path = &source.path;
                violations.push(format!("{path}: {from} ({above}) imports {to} ({below})"));
            }
            graph.entry(from.to_owned()).or_default().insert(to);
        }
    }
    violations.extend(circles(&graph));
    (violations, graph)
}

/// Removes modules that import nothing any more, until only circles are left.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    let mut left = graph.clone();
    loop {
        let before = left.len();
        let known: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, imports| imports.iter().any(|import| known.contains(import)));
        if left.is_empty() {
            return None;
        }
        if left.len() == before {
            return Some(format!("these import each other in a circle: {left:?}"));
        }
    }
}

#[test]
fn imports_go_down_only() {
    let sources = below("src");
    let lib = sources
        .iter()
        .find(|source| source.path == "src/lib.rs")
        .unwrap();
    let layers = layers(&lib.text);
    let (violations, graph) = check(&layers, &sources);
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));

    // The rule must have looked at something.
    let drawn: BTreeSet<_> = layers
        .iter()
        .flat_map(|layer| layer.modules.clone())
        .collect();
    let declared = lib
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "));
    let declared: BTreeSet<_> = declared
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect();
    let undrawn: Vec<_> = declared.symmetric_difference(&drawn).collect();
    assert_eq!(
        undrawn,
        ["bin"],
        "src/lib.rs declares and draws different modules"
    );
    assert!(layers.len() >= 6 && declared.len() >= 20, "{layers:?}");
    let imports: usize = graph.values().map(BTreeSet::len).sum();
    assert!(imports >= 15, "only {imports} imports were found");
}

const DRAWING: &str = "//! ```text\n//!  3  bin    main\n//!  2  left  |  right    two\n\
                       //!  1  high → low    pure\n//!  0  tool\n//!     gear\n//! ```\n";

/// The violations in one file of a small crate with the layers of [`DRAWING`].
fn violations(path: &str, text: &str) -> Vec<String> {
    let source = Source {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    check(&layers(DRAWING), &[source]).0
}

#[test]
fn the_drawing_is_read_with_its_order() {
    let read: Vec<_> = layers(DRAWING)
        .into_iter()
        .map(|layer| (layer.number, layer.order, layer.modules.join(" ")))
        .collect();
    let expected = [
        (3, Order::Together, "bin".to_owned()),
        (2, Order::Apart, "left right".to_owned()),
        (1, Order::Arrow, "high low".to_owned()),
        (0, Order::Together, "tool gear".to_owned()),
    ];
    assert_eq!(read, expected);
}

#[test]
fn every_way_to_import_upwards_or_sideways_is_caught() {
    for (path, text) in [
        ("src/low.rs", "use crate::high::X;"),
        ("src/low.rs", "use crate::{tool, high::X};"),
        ("src/low.rs", "fn f() { crate::left::g() }"),
        ("src/low.rs", "use super::left;"),
        ("src/low/deep.rs", "use super::super::left;"),
        (
            "src/left/deep.rs",
            "use crate::{\n    gear::{a, b},\n    right,\n};",
        ),
        ("src/right.rs", "use crate::left::X;"),
        ("src/unknown.rs", ""),
        ("src/left.rs", "use crate::unknown::X;"),
        ("src/tool.rs", "#[cfg(test)]\nmod tests { use crate::bin; }"),
    ] {
        assert_eq!(violations(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn imports_downwards_within_and_in_comments_are_let_through() {
    for (path, text) in [
        ("src/high.rs", "use crate::low::X; use crate::{tool, gear};"),
        (
            "src/bin/main.rs",
            "use relay_agent::left; use relay_agent::right;",
        ),
        ("src/left.rs", "use crate::left::part; use super::low;"),
        ("src/left/deep.rs", "use super::right;"),
        ("src/left.rs", "mod part;\nmod tests { use super::part; }"),
        (
            "src/low.rs",
            "//! See [`crate::left`].\nconst A: &str = \"crate::left\";",
        ),
        ("src/gear.rs", "use crate::tool;"),
    ] {
        assert_eq!(
            violations(path, text),
            Vec::<String>::new(),
            "{path}: {text}"
        );
    }
}

#[test]
fn a_circle_within_a_layer_is_caught() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.into(),
    };
    let sources = [
        source("src/tool.rs", "use crate::gear;"),
        source("src/gear/x.rs", "use crate::tool;"),
    ];
    assert_eq!(check(&layers(DRAWING), &sources).0.len(), 1);
}
