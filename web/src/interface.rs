//! An interface as it is served: its description, and the methods of each path.

use actix_web::dev::ResourceDef;
use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

/// A code that refusals are told apart by, its status, and what it means.
pub type Refusal = (&'static str, StatusCode, &'static str);

/// The status of a code; a server's own fault where it is in no table, which a test of each program finds.
#[must_use]
pub fn status_of(refusals: &[Refusal], code: &str) -> StatusCode {
    let found = refusals.iter().find(|(known, ..)| *known == code);
    found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status, _)| *status)
}

/// What every route may answer besides what it is for: of each status its codes and what they mean. `body` is the schema of
/// a refusal, which has a `code` and a `message`.
#[must_use]
pub fn refused(refusals: &[Refusal], body: &Ref) -> BTreeMap<String, RefOr<Response>> {
    let mut all: BTreeMap<String, RefOr<Response>> = BTreeMap::new();
    for status in refusals.iter().map(|(_, status, _)| status.as_u16()) {
        let of_status = || {
            refusals
                .iter()
                .filter(move |(_, other, _)| other.as_u16() == status)
        };
        let meanings: Vec<String> = of_status()
            .map(|(code, _, meaning)| format!("`{code}`: {meaning}"))
            .collect();
        let example = of_status()
            .map(|(code, _, meaning)| json!({ "code": code, "message": meaning }))
            .next();
        let content = ContentBuilder::new().schema(Some(body.clone())).example(example);
        let response = ResponseBuilder::new().description(meanings.join("; "));
        let response = response.content("application/json", content.build()).build();
        all.insert(status.to_string(), response.into());
    }
    all
}

/// The description and the routes in it.
pub struct Interface {
    document: String,
    routes: Vec<(ResourceDef, String)>,
}

impl Interface {
    /// Of the description of all routes.
    #[must_use]
    pub fn new(document: &OpenApi) -> Self {
        let mut document = serde_json::to_value(document).unwrap_or_default();
        refine(&mut document);
        let paths = document["paths"].as_object().into_iter().flatten();
        let routes = paths.map(|(path, item)| {
            let methods = item.as_object().into_iter().flat_map(Map::keys);
            let methods: Vec<String> = methods.map(|method| method.to_uppercase()).collect();
            (ResourceDef::new(path.as_str()), methods.join(", "))
        });
        Self {
            routes: routes.collect(),
            document: document.to_string(),
        }
    }

    /// The description as JSON.
    #[must_use]
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The methods that a path is asked with; `None` where there is no such path.
    #[must_use]
    pub fn methods(&self, path: &str) -> Option<&str> {
        let found = self.routes.iter().find(|(route, _)| route.is_match(path));
        found.map(|(_, methods)| methods.as_str())
    }
}

/// Says what the derived description does not. A `u64` is described as an `int64` that is not negative, and a `u32` as such an
/// `int32`, which leaves out half of their values; of a tuple its length is not said, and in a way that makers of clients do not know.
fn refine(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_unsigned = fields.get("minimum") == Some(&json!(0));
            let limit = match fields.get("format").and_then(Value::as_str) {
                Some("int64") if is_unsigned => Some(json!(u64::MAX)),
                Some("int32") if is_unsigned => Some(json!(u32::MAX)),
                _ => None,
            };
            if let Some(limit) = limit {
                fields.remove("format");
                fields.entry("maximum").or_insert(limit);
            }
            say_pair(fields);
            fields.values_mut().for_each(refine);
        }
        Value::Array(values) => values.iter_mut().for_each(refine),
        _ => {}
    }
}

/// A tuple of values of one kind as a list of just so many.
fn say_pair(fields: &mut Map<String, Value>) {
    let Some(Value::Array(kinds)) = fields.get("prefixItems") else {
        return;
    };
    let (count, first) = (kinds.len(), kinds.first().cloned());
    if let Some(first) = first.filter(|first| kinds.iter().all(|kind| kind == first)) {
        fields.remove("prefixItems");
        fields.insert("items".to_owned(), first);
        fields.insert("minItems".to_owned(), json!(count));
        fields.insert("maxItems".to_owned(), json!(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_all_their_values_and_tuples_their_length() {
        let mut document = json!({
            "a": { "type": "integer", "format": "int64", "minimum": 0 },
            "b": [{ "type": ["integer", "null"], "format": "int32", "minimum": 0, "maximum": 7 }],
            "c": { "type": "integer", "format": "int64" },
            "d": { "type": "array", "prefixItems": [{ "type": "string" }, { "type": "string" }], "items": false },
        });
        refine(&mut document);
        assert_eq!(
            document["a"],
            json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
        );
        assert_eq!(document["b"][0]["maximum"], 7);
        assert_eq!(document["c"]["format"], "int64");
        let pair = json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 });
        assert_eq!(document["d"], pair);
    }
}
