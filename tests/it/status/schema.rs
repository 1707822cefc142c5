//! As much of JSON Schema as `docs/*.schema.json` use. A member that the schema does not describe is a fault: whoever
//! adds one describes it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// What of a value is not as `docs/NAME.schema.json` says.
pub(super) fn validate(name: &str, value: &Value) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{name}.schema.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut faults = Vec::new();
    check(&schema, &schema, value, "$", &mut faults);
    faults
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let keywords: &Map<String, Value> = schema.as_object().unwrap();
    for (keyword, wanted) in keywords {
        match keyword.as_str() {
            "$schema" | "$comment" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(pointer).unwrap(), value, at, faults);
            }
            "type" => {
                let types = wanted
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![wanted.clone()]);
                if !types.iter().any(|it| is_of(it.as_str().unwrap(), value)) {
                    faults.push(format!("{at} is {value}, not {wanted}"));
                }
            }
            "const" if value != wanted => faults.push(format!("{at} is {value}, not {wanted}")),
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                faults.push(format!("{at} is {value}, none of {wanted}"));
            }
            "minimum" if value.as_f64() < wanted.as_f64() => {
                faults.push(format!("{at} is {value}, below {wanted}"));
            }
            "const" | "enum" | "minimum" => {}
            "anyOf" => {
                let alternatives = wanted.as_array().unwrap();
                let fits = |it: &&Value| {
                    let mut faults = Vec::new();
                    check(root, it, value, at, &mut faults);
                    faults.is_empty()
                };
                if !alternatives.iter().any(|it| fits(&it)) {
                    faults.push(format!(
                        "{at} is {value}, which is none of the alternatives"
                    ));
                }
            }
            "required" => {
                for name in wanted.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        faults.push(format!("{at} lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{name}");
                    match wanted.get(name) {
                        Some(schema) => check(root, schema, member, &at, faults),
                        None => faults.push(format!("{at} is not described")),
                    }
                }
            }
            "additionalProperties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    check(root, wanted, member, &format!("{at}.{name}"), faults);
                }
            }
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{at}[{number}]"), faults);
                }
            }
            other => panic!("the keyword {other} is not understood here"),
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not understood here"),
    }
}

#[test]
fn what_is_missing_strange_or_of_another_type_is_a_fault() {
    let good = serde_json::json!({
        "version": 1, "software": "x", "status": "serving", "stopping": null, "successor": null,
        "started_at": "x", "listen": "x",
        "public_url": "x", "identity": "x", "log_level": "info",
        "connections": {"pending": 0, "active": 0, "deactivated": 0, "removed": 0},
        "links_online": 0, "calls_in_flight": 0, "health": "ok", "conditions": [],
    });
    assert_eq!(validate("relay-status", &good), [""; 0]);
    for (pointer, bad) in [
        ("/version", serde_json::json!(2)),
        ("/status", serde_json::json!("asleep")),
        ("/links_online", serde_json::json!(-1)),
        ("/links_online", serde_json::json!("0")),
        ("/connections", serde_json::json!({})),
        ("/conditions", serde_json::json!([{}])),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = bad;
        assert!(!validate("relay-status", &changed).is_empty(), "{pointer}");
    }
    let mut more = good;
    more["new"] = Value::Null;
    assert_eq!(validate("relay-status", &more), ["$.new is not described"]);
}
