//! A value that stands in JSON as the lower-case hexadecimal of its only encoding.

use std::borrow::Cow;

use quipu_types::{Decode, Encode};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value of a bundle that is written as hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hexed<T>(pub T);

impl<T: Encode> Serialize for Hexed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.to_bytes()))
    }
}

impl<'de, T: Decode> Deserialize<'de> for Hexed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(D::Error::custom("hexadecimal is in lower case"));
        }
        let bytes = hex::decode(text.as_bytes()).map_err(D::Error::custom)?;
        T::from_bytes(&bytes).map(Self).map_err(D::Error::custom)
    }
}
