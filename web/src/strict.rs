//! A body that is a JSON object: serde would take an array for a struct, too, its elements in the order of the fields, which
//! no description of an interface says.

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// What a handler takes: a body that is an object. Its description names the type within.
pub type JsonObject<T> = actix_web::web::Json<Strict<T>>;

/// A value that was an object.
#[derive(Debug, Clone)]
pub struct Strict<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Object<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Strict;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Named {
        name: Option<String>,
    }

    #[test]
    fn an_array_is_no_object() {
        let parsed: Strict<Named> = serde_json::from_str(r#"{"name":"a"}"#).unwrap();
        assert_eq!(parsed.0.name.as_deref(), Some("a"));
        for text in ["[null]", "[]", "null", "\"a\"", "1"] {
            assert!(serde_json::from_str::<Strict<Named>>(text).is_err(), "{text}");
        }
    }
}
