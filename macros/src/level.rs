//! `#[derive(Level)]`: ranks and names from an enum.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Ident, LitStr, Result, Token, Variant};

use crate::order::rank_of;

/// A variant as a level.
struct Declared<'a> {
    variant: &'a Ident,
    name: LitStr,
    options: Options,
}

/// What `#[level(..)]` says.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    root: Option<(Ident, LitStr)>,
    fixed: Option<Ident>,
    on_demand: Option<Ident>,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "levels are the variants of an enum"));
    };
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "an enum without variants has no levels"));
    }
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "levels have no generics"));
    }
    if let Some(attribute) = input.attrs.iter().find(|attr| attr.path().is_ident("level")) {
        let why = "`level` goes on a variant; `root` on the first";
        return Err(Error::new_spanned(attribute, why));
    }
    let levels = data.variants.iter().map(declared).collect::<Result<Vec<_>>>()?;
    check_names(&levels)?;
    check_root(&levels)?;
    Ok(implementation(input, &levels))
}

fn declared(variant: &Variant) -> Result<Declared<'_>> {
    if !matches!(variant.fields, Fields::Unit) {
        return Err(Error::new_spanned(
            &variant.fields,
            "a level has no fields: its locks have names",
        ));
    }
    if let Some((_, discriminant)) = &variant.discriminant {
        let why = "levels are ranked as they are declared: leave the discriminant out";
        return Err(Error::new_spanned(discriminant, why));
    }
    let mut options = Options::default();
    for attribute in variant.attrs.iter().filter(|attr| attr.path().is_ident("level")) {
        attribute.parse_nested_meta(|meta| options.read(&meta))?;
    }
    options.check()?;
    let name = options.name.clone().unwrap_or_else(|| {
        let name = variant.ident.to_string();
        LitStr::new(&kebab_case(name.trim_start_matches("r#")), variant.ident.span())
    });
    Ok(Declared { variant: &variant.ident, name, options })
}

impl Options {
    fn read(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
        let Some(key) = meta.path.get_ident().cloned() else {
            return Err(meta.error(KEYS));
        };
        let twice = || Error::new(key.span(), format!("`{key}` is said twice"));
        let text = || -> Result<LitStr> {
            if !meta.input.peek(Token![=]) {
                let why = format!("`{key}` needs a value: `{key} = \"..\"`");
                return Err(Error::new(key.span(), why));
            }
            let text: LitStr = meta.value()?.parse()?;
            if text.value().trim().is_empty() {
                return Err(Error::new(text.span(), format!("an empty {key}")));
            }
            Ok(text)
        };
        let is_new = match key.to_string().as_str() {
            "name" => self.name.replace(text()?).is_none(),
            "root" => self.root.replace((key.clone(), text()?)).is_none(),
            "fixed" => self.fixed.replace(key.clone()).is_none(),
            "on_demand" => self.on_demand.replace(key.clone()).is_none(),
            _ => return Err(Error::new(key.span(), format!("no option `{key}`; {KEYS}"))),
        };
        if is_new { Ok(()) } else { Err(twice()) }
    }

    fn check(&self) -> Result<()> {
        match (&self.on_demand, &self.fixed, &self.root) {
            (Some(on_demand), Some(_), _) => Err(Error::new(
                on_demand.span(),
                "names that are fixed are not there on demand: say one of the two",
            )),
            (Some(on_demand), None, Some(_)) => Err(Error::new(
                on_demand.span(),
                "the root is always there, so its level is not on demand",
            )),
            _ => Ok(()),
        }
    }

    fn membership(&self) -> TokenStream {
        match (&self.fixed, &self.on_demand) {
            (Some(_), _) => quote!(Fixed),
            (None, Some(_)) => quote!(OnDemand),
            (None, None) => quote!(Listed),
        }
    }
}

const KEYS: &str = "there are `name = \"..\"`, `root = \"..\"`, `fixed` and `on_demand`";

/// `NodeRes` is `node-res`, `IPAddress` is `ip-address`.
fn kebab_case(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut kebab = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_small = at > 0 && !letters[at - 1].is_uppercase() && letters[at - 1] != '_';
        let ends_capitals = at > 0
            && letters[at - 1].is_uppercase()
            && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_small || ends_capitals) {
            kebab.push('-');
        }
        match letter {
            '_' => kebab.push('-'),
            letter => kebab.extend(letter.to_lowercase()),
        }
    }
    kebab
}

fn check_names(levels: &[Declared<'_>]) -> Result<()> {
    for (at, level) in levels.iter().enumerate() {
        let name = level.name.value();
        if let Some(twin) = levels[..at].iter().find(|other| other.name.value() == name) {
            let why = format!("`{}` is called `{name}` already", twin.variant);
            return Err(Error::new(level.name.span(), why));
        }
    }
    Ok(())
}

fn check_root(levels: &[Declared<'_>]) -> Result<()> {
    match levels[1..].iter().find_map(|level| level.options.root.as_ref()) {
        Some((key, _)) => {
            let why = format!("the root is a lock of the first level, `{}`", levels[0].variant);
            Err(Error::new(key.span(), why))
        }
        None => Ok(()),
    }
}

fn implementation(input: &DeriveInput, levels: &[Declared<'_>]) -> TokenStream {
    let DeriveInput { ident, vis, .. } = input;
    let variants: Vec<_> = levels.iter().map(|level| level.variant).collect();
    let ranks: Vec<_> = (0..levels.len()).collect();
    let rank_consts = variants.iter().map(|variant| rank_of(variant));
    let names = levels.iter().map(|level| &level.name);
    let memberships = levels.iter().map(|level| level.options.membership());
    let root = match &levels[0].options.root {
        Some((_, root)) => quote!(::core::option::Option::Some(#root)),
        None => quote!(::core::option::Option::None),
    };
    quote! {
        #[automatically_derived]
        impl ::tierlock::Level for #ident {
            fn rank(&self) -> usize {
                match self { #(Self::#variants => #ranks,)* }
            }

            fn name(&self) -> &str {
                match self { #(Self::#variants => #names,)* }
            }
        }

        #[automatically_derived]
        impl ::tierlock::Levels for #ident {
            const LEVELS: &'static [Self] = &[#(Self::#variants),*];
            const ROOT: ::core::option::Option<&'static str> = #root;

            fn membership(&self) -> ::tierlock::Membership {
                match self { #(Self::#variants => ::tierlock::Membership::#memberships,)* }
            }
        }

        // The ranks, for annotations to compare while they are compiled.
        #[automatically_derived]
        #[doc(hidden)]
        #[allow(non_upper_case_globals, dead_code)]
        impl #ident {
            #(#vis const #rank_consts: usize = #ranks;)*
        }
    }
}
