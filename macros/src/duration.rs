//! Spans of time as people write them: `2s`, `500ms`, `1h`.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::{Error, LitStr, Result};

const GRAMMAR: &str = "a whole number and one of ns, us, ms, s, min, h, as in \"2s\"";

/// The expression that makes the duration.
pub(crate) fn parse(literal: &LitStr) -> Result<TokenStream> {
    let text = literal.value();
    let wrong = |why: String| Error::new(literal.span(), format!("{why}: write {GRAMMAR}"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    if number.is_empty() {
        return Err(wrong(format!("`{text}` does not begin with a number")));
    }
    let too_long = || wrong(format!("`{text}` is too long"));
    let number: u64 = number.parse().map_err(|_| too_long())?;
    let (make, factor) = match unit {
        "ns" => ("from_nanos", 1),
        "us" | "µs" => ("from_micros", 1),
        "ms" => ("from_millis", 1),
        "s" => ("from_secs", 1),
        "m" | "min" => ("from_secs", 60),
        "h" => ("from_secs", 3600),
        "" => return Err(wrong(format!("`{text}` has no unit"))),
        _ => return Err(wrong(format!("`{unit}` is no unit of time"))),
    };
    let number = number.checked_mul(factor).ok_or_else(too_long)?;
    let make = syn::Ident::new(make, literal.span());
    let number = proc_macro2::Literal::u64_unsuffixed(number);
    Ok(quote_spanned!(literal.span()=> ::core::time::Duration::#make(#number)))
}
