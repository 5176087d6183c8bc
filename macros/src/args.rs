//! What stands in the parentheses of `#[ssynchronized(..)]`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, LitStr, Result, Token};

use crate::duration;

const OPTIONS: &str = "`in`, `shared`, `exclusive`, `intent_shared`, `intent_exclusive`, \
    `shared_intent_exclusive`, `mode`, `priority`, `timeout`, `deadline`, `now`, `owner`, `on_error`";

/// What an annotation without a lock is asked.
pub(crate) const WHICH: &str = "which lock? write `#[ssynchronized(self.lock)]`, or \
    `#[ssynchronized(\"name\", in = self.locks)]`";

pub(crate) struct Args {
    pub(crate) what: What,
    /// The expression of the mode.
    pub(crate) mode: TokenStream,
    pub(crate) priority: Option<Expr>,
    /// The call that limits the time.
    pub(crate) limit: Option<TokenStream>,
    pub(crate) now: bool,
    pub(crate) owner: Option<Expr>,
    pub(crate) on_error: Option<OnError>,
}

pub(crate) enum What {
    Lock(Expr),
    Name { template: LitStr, place: Expr },
}

pub(crate) enum OnError {
    Panic(Span),
    Handle(Expr),
}

/// Options as they are read, each with where it was said.
#[derive(Default)]
struct Options {
    place: Option<Expr>,
    mode: Option<(Span, TokenStream)>,
    priority: Option<Expr>,
    limit: Option<(Ident, TokenStream)>,
    now: Option<Ident>,
    owner: Option<Expr>,
    on_error: Option<OnError>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Err(Error::new(Span::call_site(), WHICH));
        }
        let first: Expr = input.parse()?;
        let mut options = Options::default();
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if !input.is_empty() {
                options.read(input)?;
            }
        }
        options.check_limits()?;
        let what = what(first, options.place)?;
        let mode =
            options.mode.map_or_else(|| quote!(::tierlock::Mode::Exclusive), |(_, mode)| mode);
        Ok(Self {
            what,
            mode,
            priority: options.priority,
            limit: options.limit.map(|(_, limit)| limit),
            now: options.now.is_some(),
            owner: options.owner,
            on_error: options.on_error,
        })
    }
}

fn what(first: Expr, place: Option<Expr>) -> Result<What> {
    match (text(&first).cloned(), place) {
        (Some(template), Some(place)) => Ok(What::Name { template, place }),
        (Some(template), None) => Err(Error::new(
            template.span(),
            "a name of what? say where it means a lock: `in = self.locks`",
        )),
        (None, Some(place)) => Err(Error::new(
            place.span(),
            "`in` goes with a name in quotes; this lock is an expression",
        )),
        (None, None) => Ok(What::Lock(first)),
    }
}

/// The text, if it is one, also where a macro by example has passed it on.
fn text(value: &Expr) -> Option<&LitStr> {
    match value {
        Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text),
        Expr::Group(group) => text(&group.expr),
        _ => None,
    }
}

impl Options {
    fn read(&mut self, input: ParseStream<'_>) -> Result<()> {
        let Ok(key) = input.call(Ident::parse_any) else {
            return Err(input.error(format!("an option has to come here: {OPTIONS}")));
        };
        match key.to_string().as_str() {
            "in" => once(&mut self.place, &key, value(&key, input)?),
            "shared" => self.mode(&key, input, "Shared"),
            "exclusive" => self.mode(&key, input, "Exclusive"),
            "intent_shared" => self.mode(&key, input, "IntentShared"),
            "intent_exclusive" => self.mode(&key, input, "IntentExclusive"),
            "shared_intent_exclusive" => self.mode(&key, input, "SharedIntentExclusive"),
            "mode" => {
                let mode: Expr = value(&key, input)?;
                self.set_mode(&key, mode.into_token_stream())
            }
            "priority" => once(&mut self.priority, &key, value(&key, input)?),
            "timeout" => self.timeout(key, input),
            "deadline" => {
                let deadline: Expr = value(&key, input)?;
                self.set_limit(key, quote!(.deadline(#deadline)))
            }
            "now" => {
                alone(&key, input, "the lock is tried and not waited for")?;
                once(&mut self.now, &key.clone(), key)
            }
            "owner" => once(&mut self.owner, &key, value(&key, input)?),
            "on_error" => {
                let choice = on_error(value(&key, input)?);
                once(&mut self.on_error, &key, choice)
            }
            "blocking" => Err(Error::new(
                key.span(),
                "no option `blocking`: `now` tries, `timeout = \"2s\"` waits so long, neither waits for ever",
            )),
            _ => Err(Error::new(key.span(), format!("no option `{key}`; there are {OPTIONS}"))),
        }
    }

    fn mode(&mut self, key: &Ident, input: ParseStream<'_>, name: &str) -> Result<()> {
        alone(key, input, "without it the lock is taken exclusively")?;
        let name = Ident::new(name, key.span());
        self.set_mode(key, quote_spanned!(key.span()=> ::tierlock::Mode::#name))
    }

    fn set_mode(&mut self, key: &Ident, mode: TokenStream) -> Result<()> {
        if self.mode.is_some() {
            return Err(Error::new(
                key.span(),
                "a lock is taken in one mode, and another is given before",
            ));
        }
        self.mode = Some((key.span(), mode));
        Ok(())
    }

    fn timeout(&mut self, key: Ident, input: ParseStream<'_>) -> Result<()> {
        let timeout: Expr = value(&key, input)?;
        let timeout = match text(&timeout) {
            Some(text) => duration::parse(text)?,
            None => timeout.into_token_stream(),
        };
        self.set_limit(key, quote!(.timeout(#timeout)))
    }

    fn set_limit(&mut self, key: Ident, limit: TokenStream) -> Result<()> {
        match &self.limit {
            Some((before, _)) if *before == key => Err(twice(&key)),
            Some((before, _)) => {
                Err(Error::new(key.span(), format!("`{before}` limits the time already")))
            }
            None => {
                self.limit = Some((key, limit));
                Ok(())
            }
        }
    }

    fn check_limits(&self) -> Result<()> {
        match (&self.now, &self.limit) {
            (Some(_), Some((key, _))) => Err(Error::new(
                key.span(),
                format!("`now` does not wait, so `{key}` would do nothing"),
            )),
            _ => Ok(()),
        }
    }
}

fn on_error(choice: Expr) -> OnError {
    match &choice {
        Expr::Path(path) if path.path.is_ident("panic") => OnError::Panic(choice.span()),
        _ => OnError::Handle(choice),
    }
}

/// What follows `key`.
fn value(key: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    if !input.peek(Token![=]) {
        return Err(Error::new(key.span(), format!("`{key}` needs a value: `{key} = ..`")));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

/// Nothing is to follow `key`.
fn alone(key: &Ident, input: ParseStream<'_>, why: &str) -> Result<()> {
    if input.peek(Token![=]) {
        return Err(Error::new(key.span(), format!("`{key}` stands alone; {why}")));
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, key: &Ident, value: T) -> Result<()> {
    if place.is_some() {
        return Err(twice(key));
    }
    *place = Some(value);
    Ok(())
}

fn twice(key: &Ident) -> Error {
    Error::new(key.span(), format!("`{key}` is said twice"))
}
