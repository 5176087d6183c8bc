//! Levels that one function takes: in order, if they are known when it is compiled.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote_spanned};
use syn::{Error, Expr, Ident, Path, Result};

use crate::args::{Args, What};

/// The associated constant in which `#[derive(Level)]` keeps the rank of a variant.
pub(crate) fn rank_of(variant: &Ident) -> Ident {
    format_ident!("__RANK_OF_{}", variant, span = variant.span())
}

/// A level that is written as `place.at(Type::Variant)`.
struct Level<'a> {
    place: String,
    path: &'a Path,
    of: Path,
    variant: &'a Ident,
}

impl<'a> Level<'a> {
    fn of(args: &'a Args) -> Option<Self> {
        let What::Name { place: Expr::MethodCall(call), .. } = &args.what else { return None };
        let (1, Some(Expr::Path(level))) = (call.args.len(), call.args.first()) else {
            return None;
        };
        if call.method != "at" || level.qself.is_some() {
            return None;
        }
        let mut of = level.path.clone();
        of.segments.pop();
        of.segments.pop_punct();
        let (variant, owner) = (&level.path.segments.last()?.ident, &of.segments.last()?.ident);
        // A constant in a module, and what only the compiler can find, are left to the run time.
        let is_variant = is_type_like(variant) && is_type_like(owner) && owner != "Self";
        let place = call.receiver.to_token_stream().to_string();
        is_variant.then_some(Self { place, path: &level.path, of, variant })
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.place == other.place
            && self.of.to_token_stream().to_string() == other.of.to_token_stream().to_string()
    }

    fn text(&self) -> String {
        self.path.to_token_stream().to_string().replace(' ', "")
    }
}

fn is_type_like(name: &Ident) -> bool {
    name.to_string().starts_with(|c: char| c.is_uppercase())
}

/// Items that do not compile if the levels are out of order.
pub(crate) fn checks(annotations: &[Args]) -> Result<TokenStream> {
    let levels: Vec<_> = annotations.iter().filter_map(Level::of).collect();
    let mut checks = TokenStream::new();
    for (at, later) in levels.iter().enumerate() {
        for earlier in levels[..at].iter().filter(|earlier| earlier.is_beside(later)) {
            checks.extend(check(earlier, later)?);
        }
    }
    Ok(checks)
}

fn check(earlier: &Level<'_>, later: &Level<'_>) -> Result<TokenStream> {
    if earlier.variant == later.variant {
        let why = format!("level `{}` is taken already, and is taken once at a time", later.text());
        return Err(Error::new(later.variant.span(), why));
    }
    let of = &later.of;
    let (first, second) = (rank_of(earlier.variant), rank_of(later.variant));
    let why = format!(
        "level `{}` comes before `{}`, which is taken already",
        later.text(),
        earlier.text()
    );
    Ok(quote_spanned! {later.variant.span()=>
        const _: () = {
            // Levels that are not derived have no ranks here, and are in order as far as one knows.
            #[allow(dead_code, non_upper_case_globals)]
            trait Unknown {
                const #first: usize = 0;
                const #second: usize = 1;
            }
            impl<T> Unknown for T {}
            ::core::assert!(<#of>::#first < <#of>::#second, #why);
        };
    })
}
