//! How a plan file has values that serde knows nothing of.

/// Values that have a text form, as a list of texts.
pub mod list {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// Words of a command, which need not be UTF-8.
pub mod words {
    use std::{
        ffi::{OsStr, OsString},
        os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    };

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// A word as text if it is text, else as bytes.
    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Word<'a> {
        Text(std::borrow::Cow<'a, str>),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(words: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(words.iter().map(|word| match word.to_str() {
            Some(text) => Word::Text(text.into()),
            None => Word::Bytes(OsStr::as_bytes(word).to_owned()),
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OsString>, D::Error> {
        let words = Vec::<Word<'_>>::deserialize(deserializer)?.into_iter().map(|word| match word {
            Word::Text(text) => text.into_owned().into(),
            Word::Bytes(bytes) => OsString::from_vec(bytes),
        });
        Ok(words.collect())
    }
}
