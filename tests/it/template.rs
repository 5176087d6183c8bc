//! Names made of templates and data: what `str.format` does with the like, and what must never become a name.

use std::sync::Arc;

use proptest::prelude::*;
use tierlock::template::{Data, Template, TemplateError, TemplateFault, Value};

fn share() -> Data {
    let snap = Data::new().with("name", "nightly").with("a.b", "dotted").with("]", "unreachable");
    let share = Data::new().with("id", 7).with("tags", vec!["a", "b"]).with("snap", snap);
    Data::new().with("share", share).with("f_name", "create").with("share_id", None::<u32>)
}

#[track_caller]
fn named(template: &str) -> String {
    Template::parse(template).unwrap().format(&share()).unwrap()
}

#[track_caller]
fn unread(template: &str) -> String {
    let error = Template::parse(template).unwrap_err();
    assert!(matches!(error.fault, TemplateFault::Malformed { .. }), "{error}");
    assert_eq!(&*error.template, template);
    error.to_string()
}

#[track_caller]
fn unnamed(template: &str) -> TemplateError {
    Template::parse(template).unwrap().format(&share()).unwrap_err()
}

#[test]
fn fields_attributes_and_items_are_followed() {
    assert_eq!(named("{f_name}-{share.id}-{share.snap[name]}"), "create-7-nightly");
    assert_eq!(named("{share[snap].name}{share[tags][1]}"), "nightlyb");
}

#[test]
fn doubled_braces_are_braces() {
    assert_eq!(named("{{{f_name}}}"), "{create}");
    assert_eq!(named("{{f_name}}"), "{f_name}");
    assert_eq!(named("a}}{{b"), "a}{b");
}

#[test]
fn an_item_may_contain_what_means_something_elsewhere() {
    assert_eq!(named("{share.snap[a.b]}"), "dotted");
    let braces = Data::new().with("map", Data::new().with("}:{", "x"));
    assert_eq!(Template::parse("{map[}:{]}").unwrap().format(&braces).unwrap(), "x");
}

#[test]
fn numbers_count_in_lists_and_are_names_in_maps() {
    let data = Data::new().with("list", vec!["a", "b"]).with("map", Data::new().with("1", "c"));
    let name = Template::parse("{list[1]}{list.0}{map[1]}").unwrap().format(&data).unwrap();
    assert_eq!(name, "bac");
    for beyond in ["{list[2]}", "{list[-1]}", "{list[+1]}", "{list[x]}"] {
        let error = Template::parse(beyond).unwrap().format(&data).unwrap_err();
        assert!(error.to_string().ends_with("but `0`, `1`"), "{error}");
    }
}

#[test]
fn formats_and_conversions_are_refused() {
    assert!(unread("a-{id:>8}").contains("leave the format out"));
    assert!(unread("a-{id:}").contains("leave the format out"));
    assert!(unread("a-{id!r}").contains("leave the conversion out"));
    assert!(unread("a-{id[x]!s}").contains("leave the conversion out"));
    assert!(unread("a-{id[x]:{width}}").contains("leave the format out"));
}

#[test]
fn what_cannot_be_read_says_where_and_why() {
    assert_eq!(unread("a}b"), "} in a}b: nothing to close: write `}}` for a brace");
    assert_eq!(unread("a-{id"), "{id in a-{id: never closed: write `{{` for a brace");
    assert_eq!(unread("{a[0}"), "{a[0}: never closed: write `{{` for a brace");
    assert_eq!(unread("x{}"), "{} in x{}: nothing is named");
    assert_eq!(unread("x{.a}"), "{.a} in x{.a}: nothing is named");
    assert_eq!(unread("x{a.}"), "{a.} in x{a.}: nothing is named");
    assert_eq!(unread("x{a[]}"), "{a[]} in x{a[]}: nothing stands in the brackets");
    assert_eq!(unread("x{0}"), "{0} in x{0}: data go by name, not by number");
    assert_eq!(unread("x{a[b]c}"), "{a[b]c} in x{a[b]c}: only `.` or `[` follows a bracket");
    assert_eq!(unread("x{a{b}"), "{a{b} in x{a{b}: a brace or bracket within a name");
    assert_eq!(unread(" "), " : an empty name would be one for everybody");
}

#[test]
fn what_is_missing_is_an_error_that_names_template_and_placeholder() {
    let error = unnamed("share-{share.name}");
    assert_eq!((&*error.template, &*error.placeholder), ("share-{share.name}", "{share.name}"));
    let known = "there is no `name`, but `id`, `snap`, `tags`";
    assert_eq!(error.to_string(), format!("{{share.name}} in share-{{share.name}}: {known}"));
}

#[test]
fn none_never_becomes_a_name_shared_by_everybody() {
    assert_eq!(unnamed("share-{share_id}").fault, TemplateFault::Empty);
    assert_eq!(unnamed("share-{share_id.host}").fault, TemplateFault::Empty);
    let data = Data::new().with("id", Some(7));
    assert_eq!(Template::parse("share-{id}").unwrap().format(&data).unwrap(), "share-7");
}

#[test]
fn an_empty_value_is_no_part_of_a_name() {
    for blank in ["", " ", "\t\n", "\u{a0}"] {
        let data = Data::new().with("id", blank);
        let error = Template::parse("share-{id}").unwrap().format(&data).unwrap_err();
        assert_eq!(error.to_string(), "{id} in share-{id}: its value is empty");
    }
}

#[test]
fn a_value_with_parts_is_no_name_and_one_without_has_no_parts() {
    let part = |found| TemplateFault::WrongKind { found, wanted: "a single value" };
    assert_eq!(unnamed("{share}").fault, part("a map"));
    assert_eq!(unnamed("{share.tags}").fault, part("a list"));
    let error = unnamed("{f_name.id}");
    assert!(error.to_string().ends_with("a single value where a list or a map has to be"));
}

#[test]
fn a_hostile_template_is_an_error_on_one_line() {
    assert_eq!(unread("a\u{1b}\n{"), "{ in a\\u{1b}\\n{: never closed: write `{{` for a brace");
    assert!(unnamed("{share[\n]}").to_string().contains("there is no `\\n`"));
}

#[test]
fn values_are_shown_as_rust_shows_them() {
    let data = Data::new()
        .with("int", i128::MIN)
        .with("truth", true)
        .with("char", 'ß')
        .with("string", "a".to_owned())
        .with("arc", Arc::<str>::from("b"))
        .with("list", vec![1_u8, 2]);
    let name = Template::parse("{int}|{truth}|{char}|{string}|{arc}|{list[0]}").unwrap();
    let shown = format!("{}|true|ß|a|b|1", i128::MIN);
    assert_eq!(name.format(&data).unwrap(), shown);
}

#[cfg(feature = "coordination")]
#[test]
fn what_can_be_serialised_has_its_fields() {
    let json =
        serde_json::json!({ "id": 7, "size": 1.5, "none": null, "tags": ["a", { "b": true }] });
    let data = Data::new().with("share", json);
    let format = |template| Template::parse(template).unwrap().format(&data);
    assert_eq!(
        format("{share.id} {share.size} {share.tags[0]} {share.tags[1].b}").unwrap(),
        "7 1.5 a true"
    );
    assert_eq!(format("{share.none}").unwrap_err().fault, TemplateFault::Empty);
}

/// Text made of what matters to a template.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        Just("{"),
        Just("}"),
        Just("{{"),
        Just("}}"),
        Just("["),
        Just("]"),
        Just("."),
        Just(":"),
        Just("!"),
        Just("a"),
        Just("0"),
        Just(" "),
        Just("ß"),
        Just("{a}"),
        Just("{a.b[c]}"),
    ];
    prop::collection::vec(scrap, 0..12).prop_map(|scraps| scraps.concat())
}

/// A template that can be read.
fn readable() -> impl Strategy<Value = String> {
    let step = prop_oneof!["\\.[a-zß0-9 ]{1,3}", "\\[[^\\]]{1,3}\\]"];
    let placeholder = ("[a-z_]{1,4}", prop::collection::vec(step, 0..3));
    let placeholder =
        placeholder.prop_map(|(field, steps)| format!("{{{field}{}}}", steps.concat()));
    let piece =
        prop_oneof![placeholder, "[^{}]{1,4}", Just("{{".to_owned()), Just("}}".to_owned())];
    let pieces = prop::collection::vec(piece, 1..6);
    pieces
        .prop_map(|pieces| pieces.concat())
        .prop_filter("not blank", |text| !text.trim().is_empty())
}

proptest! {
    #[test]
    fn reading_a_template_never_panics(text in prop_oneof![".*", scraps()]) {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.format(&share());
        }
    }

    #[test]
    fn whatever_is_read_is_shown_as_it_was_written(text in prop_oneof![scraps(), readable()]) {
        if let Ok(template) = Template::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn whatever_is_shown_is_read_as_the_same(text in readable()) {
        let template = Template::parse(&text).unwrap();
        prop_assert_eq!(Template::parse(&template.to_string()), Ok(template));
    }

    #[test]
    fn text_whose_braces_are_doubled_is_a_name_as_it_is(text in "[{}a ]{0,6}[{}b]") {
        let template = Template::parse(&text.replace('{', "{{").replace('}', "}}")).unwrap();
        prop_assert_eq!(template.format(&Data::new()).unwrap(), text);
    }

    #[test]
    fn one_placeholder_makes_other_names_of_other_values(one in "[^ ]{1,4}", other in "[^ ]{1,4}") {
        let template = Template::parse("share-{id}-{{x").unwrap();
        let name = |id: &String| template.format(&Data::new().with("id", id));
        prop_assume!(name(&one).is_ok() && name(&other).is_ok());
        prop_assert_eq!(name(&one) == name(&other), one == other);
    }

    #[test]
    fn what_cannot_be_in_the_values_keeps_their_names_apart(
        one in ("[a-c-]{1,3}", "[a-c/-]{1,3}"),
        other in ("[a-c-]{1,3}", "[a-c/-]{1,3}"),
    ) {
        let template = Template::parse("{host}/{path}").unwrap();
        let name = |(host, path): &(String, String)| {
            template.format(&Data::new().with("host", host).with("path", path)).unwrap()
        };
        prop_assert_eq!(name(&one) == name(&other), one == other);
    }

    #[test]
    fn a_name_is_never_blank(text in readable(), value in "\\PC{0,2}") {
        let value = || Value::from(&value);
        let data = Data::from_iter([("a", value()), ("b", value())]);
        if let Ok(name) = Template::parse(&text).unwrap().format(&data) {
            prop_assert!(!name.trim().is_empty());
        }
    }
}
