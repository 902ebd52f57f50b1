//! How the words look to whoever reads the API's description.
//!
//! Ids, channels and positions are texts with a form; everything else of the
//! description follows from the types in [`super::rest`].

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::rest::{RECIPIENTS_MAX, Recipients};
use super::{Channel, MessageId, NodeId, Position, SessionId};

macro_rules! text_schema {
    ($($type:ident: $description:literal, $pattern:literal, $example:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($description))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .into()
            }
        }

        impl ToSchema for $type {}
    )*};
}

text_schema! {
    MessageId: "A message's name, a ULID: what receivers de-duplicate by.",
        "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "01JZ8Q6V3M5N8R2T4W6Y8A0B2C";
    NodeId: "A node's name, a ULID; fresh at every start.",
        "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "01JZ8Q6V3M5N8R2T4W6Y8A0B2D";
    SessionId: "A live session's name, a ULID.",
        "^[0-7][0-9A-HJKMNP-TV-Z]{25}$", "01JZ8Q6V3M5N8R2T4W6Y8A0B2E";
    Channel: "What a message is addressed to: `user:NAME`, `topic:NAME` or `all`. A name has up to 200 bytes, without spaces; that of a topic without `*`.",
        r"^(all|user:[^\s\x00-\x1f\x7f-\x9f]{1,200}|topic:[^*\s\x00-\x1f\x7f-\x9f]{1,200})$", "user:alice";
    Position: "Opaque: where a message stands in its channel.",
        r"^[0-9a-f]{16}\.[0-9]+$", "9c1f03b5a7d2e4c6.17";
}

impl PartialSchema for Recipients<'_> {
    fn schema() -> RefOr<Schema> {
        let channel = Ref::from_schema_name(Channel::name());
        let list =
            ArrayBuilder::new().items(channel.clone()).min_items(Some(1)).max_items(Some(RECIPIENTS_MAX));
        let one_of = OneOfBuilder::new().item(channel).item(list);
        one_of.description(Some("One recipient, or a list of them.")).into()
    }
}

impl ToSchema for Recipients<'_> {
    fn name() -> std::borrow::Cow<'static, str> {
        "Recipients".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Channel::name().into_owned(), Channel::schema()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_valid() {
        assert!("01JZ8Q6V3M5N8R2T4W6Y8A0B2C".parse::<MessageId>().is_ok());
        assert!("01JZ8Q6V3M5N8R2T4W6Y8A0B2D".parse::<NodeId>().is_ok());
        assert!("01JZ8Q6V3M5N8R2T4W6Y8A0B2E".parse::<SessionId>().is_ok());
        assert!("user:alice".parse::<Channel>().is_ok());
        assert!("9c1f03b5a7d2e4c6.17".parse::<Position>().is_ok());
    }
}
