//! Whether answers are what an OpenAPI document says: types, names, patterns. A keyword that is not known here fails the
//! test, so that nothing is taken for checked that is not.

use serde_json::Value;
use std::collections::BTreeSet;

/// An OpenAPI document.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// `METHOD /path` of every operation.
    pub(crate) fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().unwrap();
        let operations = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        });
        operations.collect()
    }

    /// Fails the test where an answer's body is not what the document says of this route and status.
    pub(crate) fn check_answer(&self, (method, path): (&str, &str), status: u16, body: &Value) {
        let answers = &self.0["paths"][path][method.to_lowercase()]["responses"];
        let exact = answers.get(status.to_string());
        let answer = exact.or_else(|| answers.get(format!("{}XX", status / 100)));
        let answer = answer.unwrap_or_else(|| panic!("{method} {path}: {status} is not documented"));
        let schema = &answer["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{method} {path} {status}: no schema");
        if let Err(error) = self.fits(schema, body) {
            panic!("{method} {path} {status}: {error}\n{body:#}");
        }
    }

    /// Whether every operation that takes a body says what it is, and every answer has a description.
    pub(crate) fn check_completeness(&self) {
        for (method, path) in self.operations() {
            let operation = &self.0["paths"][&path][method.to_lowercase()];
            let summary = operation["summary"].as_str().unwrap_or_default();
            assert!(!summary.is_empty(), "{method} {path}: no summary");
            for (status, answer) in operation["responses"].as_object().unwrap() {
                assert_ne!(answer["description"], "", "{method} {path} {status}");
                let empty = status.starts_with('3');
                assert_eq!(answer["content"].is_null(), empty, "{method} {path} {status}");
            }
            for name in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = name.strip_suffix('}').unwrap();
                let documented = operation["parameters"].as_array().unwrap().iter();
                let of_path = documented.filter(|parameter| parameter["in"] == "path");
                assert!(
                    of_path.clone().any(|parameter| parameter["name"] == name),
                    "{method} {path}: {name}"
                );
            }
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(name) => {
                let found = self.0.pointer(name.strip_prefix('#').unwrap());
                self.resolve(found.unwrap_or_else(|| panic!("{name} is not in the document")))
            }
            None => schema,
        }
    }

    /// All of it: an object must not have a property that the schema does not name either.
    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        self.conforms(schema, value)?;
        let (Some(known), Some(object)) = (self.properties(schema), value.as_object()) else {
            return Ok(());
        };
        match object.keys().find(|name| !known.contains(*name)) {
            Some(name) => Err(format!("property {name:?} is not documented")),
            None => Ok(()),
        }
    }

    /// The properties that an object may have; `None` where it may have any.
    fn properties(&self, schema: &Value) -> Option<BTreeSet<String>> {
        let schema = self.resolve(schema);
        let any = schema.get("additionalProperties").is_some() || schema.get("oneOf").is_some();
        let own = schema["properties"].as_object();
        if any || own.is_none() && schema["allOf"].is_null() {
            return None;
        }
        let mut known: BTreeSet<String> = own.into_iter().flat_map(|own| own.keys().cloned()).collect();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            known.extend(self.properties(part)?);
        }
        Some(known)
    }

    fn conforms(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        for (keyword, said) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "description" | "example" | "examples" | "default" | "title" | "format" => true,
                "type" => match said {
                    Value::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind)),
                    kind => is_a(value, kind),
                },
                "enum" => said.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|number| Some(number) >= said.as_f64()),
                "maximum" => value.as_f64().is_none_or(|number| Some(number) <= said.as_f64()),
                "maxLength" => value.as_str().is_none_or(|text| text.len() <= number(said)),
                "maxItems" => value.as_array().is_none_or(|list| list.len() <= number(said)),
                "minItems" => value.as_array().is_none_or(|list| list.len() >= number(said)),
                "pattern" => value
                    .as_str()
                    .is_none_or(|text| matches(said.as_str().unwrap(), text)),
                "required" => said.as_array().unwrap().iter().all(|name| {
                    let name = name.as_str().unwrap();
                    !value.is_object() || value.get(name).is_some()
                }),
                // Which properties there may be is looked at by `fits`.
                "additionalProperties" | "propertyNames" => true,
                // No more than the `prefixItems`.
                "items" if said == false => {
                    let allowed = schema["prefixItems"].as_array().map_or(0, Vec::len);
                    value.as_array().is_none_or(|list| list.len() <= allowed)
                }
                other => {
                    self.parts_conform(other, said, value)?;
                    true
                }
            };
            if !holds {
                return Err(format!("{value} is not of {keyword} {said}"));
            }
        }
        Ok(())
    }

    fn parts_conform(&self, keyword: &str, said: &Value, value: &Value) -> Result<(), String> {
        let schemas = said.as_array().into_iter().flatten();
        let parts = value.as_array().into_iter().flatten();
        match keyword {
            "properties" => said.as_object().unwrap().iter().try_for_each(|(name, schema)| {
                let part = value.get(name).map_or(Ok(()), |part| self.fits(schema, part));
                part.map_err(|error| format!("{name}: {error}"))
            }),
            "items" => parts.into_iter().enumerate().try_for_each(|(index, part)| {
                self.fits(said, part).map_err(|error| format!("{index}: {error}"))
            }),
            "prefixItems" => schemas
                .zip(parts)
                .try_for_each(|(schema, part)| self.fits(schema, part)),
            "allOf" => schemas
                .into_iter()
                .try_for_each(|part| self.conforms(part, value)),
            "oneOf" => {
                let count = schemas.clone().count();
                let errors: Vec<_> = schemas.filter_map(|part| self.fits(part, value).err()).collect();
                match errors.len() == count {
                    true => Err(errors.join("; ")),
                    false => Ok(()),
                }
            }
            other => panic!("the schema has {other:?}, which is not checked here"),
        }
    }
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn is_a(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other:?}"),
    }
}

/// Of regular expressions only `^prefix[characters]{number}$`, which is all that the schemas use.
fn matches(pattern: &str, text: &str) -> bool {
    let (prefix, rest) = pattern.strip_prefix('^').unwrap().split_once('[').unwrap();
    let (class, count) = rest.split_once("]{").unwrap();
    let count = count.strip_suffix("}$").unwrap();
    let (least, most) = count.split_once(',').unwrap_or((count, count));
    let Some(text) = text.strip_prefix(prefix) else {
        return false;
    };
    let class: Vec<char> = class.chars().collect();
    let is_in = |c: char| {
        let ranges = class.windows(3).filter(|range| range[1] == '-');
        class.contains(&c) || ranges.into_iter().any(|range| (range[0]..=range[2]).contains(&c))
    };
    let number = |text: &str| text.parse::<usize>().unwrap();
    let length = text.chars().count();
    text.chars().all(is_in) && (number(least)..=number(most)).contains(&length)
}
