//! Names with placeholders: `share-{share.id}-{f_name}`.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Error, Expr, ExprPath, FnArg, Ident, Lit, LitStr, Member, Pat, Result, Signature};

/// What a placeholder may name.
pub(crate) struct Scope {
    function: String,
    /// As they are written in the signature; `self` is one.
    arguments: Vec<Ident>,
}

impl Scope {
    pub(crate) fn of(signature: &Signature) -> Self {
        let mut arguments = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Typed(typed) => bind(&typed.pat, &mut arguments),
                FnArg::Receiver(receiver) => {
                    arguments.push(Ident::new("self", receiver.self_token.span));
                }
            }
        }
        let function = signature.ident.to_string().trim_start_matches("r#").to_owned();
        Self { function, arguments }
    }

    fn argument(&self, name: &Ident) -> Option<&Ident> {
        self.arguments.iter().find(|argument| *argument == name)
    }

    /// Whether there is an argument of this name, and if not, why not.
    fn find(&self, name: &Ident) -> std::result::Result<(), String> {
        if self.argument(name).is_some() {
            return Ok(());
        }
        if name == "self" {
            return Err("this function has no `self`".to_owned());
        }
        let known: Vec<_> = self.arguments.iter().map(|name| format!("`{name}`, ")).collect();
        Err(format!("no argument `{name}`; there are {}`f_name`", known.concat()))
    }

    /// The value as read, pointing at `span`, its arguments being those of the signature: a macro by example may have got one
    /// from elsewhere than the other.
    fn resolve(&self, value: TokenStream, span: Span) -> TokenStream {
        let mut is_member = false;
        let resolve = |mut token: TokenTree| {
            let argument = match &token {
                TokenTree::Ident(name) if !is_member => self.argument(name),
                _ => None,
            };
            if let TokenTree::Group(group) = &token {
                token = Group::new(group.delimiter(), self.resolve(group.stream(), span)).into();
            }
            token.set_span(argument.map_or(span, |argument| span.resolved_at(argument.span())));
            is_member = matches!(&token, TokenTree::Punct(dot) if dot.as_char() == '.');
            token
        };
        value.into_iter().map(resolve).collect()
    }
}

/// The names that a pattern binds.
fn bind(pattern: &Pat, names: &mut Vec<Ident>) {
    match pattern {
        Pat::Ident(ident) => {
            names.push(ident.ident.clone());
            ident.subpat.iter().for_each(|(_, pattern)| bind(pattern, names));
        }
        Pat::Paren(inner) => bind(&inner.pat, names),
        Pat::Reference(inner) => bind(&inner.pat, names),
        Pat::Slice(list) => list.elems.iter().for_each(|pattern| bind(pattern, names)),
        Pat::Struct(list) => list.fields.iter().for_each(|field| bind(&field.pat, names)),
        Pat::Tuple(list) => list.elems.iter().for_each(|pattern| bind(pattern, names)),
        Pat::TupleStruct(list) => list.elems.iter().for_each(|pattern| bind(pattern, names)),
        Pat::Type(inner) => bind(&inner.pat, names),
        _ => {}
    }
}

enum Piece {
    Text(String),
    Value { placeholder: String, span: Span, value: TokenStream, spec: String },
}

/// The expression that makes the name.
pub(crate) fn expand(literal: &LitStr, scope: &Scope) -> Result<TokenStream> {
    let mut pieces = Reader { literal, scope }.pieces()?;
    if pieces.iter().all(|piece| matches!(piece, Piece::Text(text) if text.trim().is_empty())) {
        return Err(Error::new(literal.span(), "an empty name would be one lock for everybody"));
    }
    if let [Piece::Text(text)] = &pieces[..] {
        let text = LitStr::new(text, literal.span());
        return Ok(text.into_token_stream());
    }
    let begin = match &pieces[0] {
        Piece::Text(text) => quote!(::tierlock::annotation::Name::from(#text)),
        Piece::Value { .. } => quote!(::tierlock::annotation::Name::default()),
    };
    if matches!(pieces[0], Piece::Text(_)) {
        pieces.remove(0);
    }
    let calls = pieces.iter().map(Piece::call);
    Ok(quote!(#begin #(#calls)*))
}

impl Piece {
    fn call(&self) -> TokenStream {
        match self {
            Self::Text(text) => quote!(.text(#text)),
            Self::Value { placeholder, span, value, spec } => {
                let format = LitStr::new(&format!("{{:{spec}}}"), *span);
                if spec.is_empty() {
                    quote_spanned!(*span=> .value(#placeholder, &#value))
                } else if spec.ends_with(|c: char| c == '?' || c.is_ascii_alphabetic()) {
                    quote_spanned!(*span=> .value(#placeholder, &::core::format_args!(#format, #value)))
                } else {
                    quote_spanned!(*span=> .padded(#placeholder, &#value, &::core::format_args!(#format, #value)))
                }
            }
        }
    }
}

struct Reader<'a> {
    literal: &'a LitStr,
    scope: &'a Scope,
}

impl Reader<'_> {
    fn pieces(&self) -> Result<Vec<Piece>> {
        let template = self.literal.value();
        let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), template.as_str());
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                text.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            if rest.starts_with('}') {
                return Err(self.error("}", "nothing to close: write `}}` for a brace"));
            }
            let Some(end) = end_of(rest) else {
                return Err(self.error(rest, "never closed: write `{{` for a brace"));
            };
            match self.placeholder(&rest[..end])? {
                Piece::Text(more) => text.push_str(&more),
                value => {
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    pieces.push(value);
                }
            }
            rest = &rest[end..];
        }
        text.push_str(rest);
        if !text.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(pieces)
    }

    /// `placeholder` has its braces.
    fn placeholder(&self, placeholder: &str) -> Result<Piece> {
        let inner = &placeholder[1..placeholder.len() - 1];
        let (source, spec) = split_spec(inner);
        if source.trim().is_empty() {
            return Err(self.error(placeholder, "an empty placeholder: name an argument"));
        }
        if spec.contains(['$', '*', '{']) {
            return Err(self.error(placeholder, "a format takes no further arguments here"));
        }
        let span = self.span_of(placeholder);
        let mut value: Expr = syn::parse_str(source)
            .map_err(|error| self.error(placeholder, &format!("not an expression: {error}")))?;
        if is_f_name(&value) {
            if self.scope.arguments.iter().any(|name| name == "f_name") {
                let why = "`f_name` is the function's name, and an argument as well: rename that";
                return Err(self.error(placeholder, why));
            }
            if spec.is_empty() {
                return Ok(Piece::Text(self.scope.function.clone()));
            }
            let name = LitStr::new(&self.scope.function, span);
            value = syn::parse_quote!(#name);
        } else {
            self.check(&value).map_err(|why| self.error(placeholder, &why))?;
        }
        let value = self.scope.resolve(value.into_token_stream(), span);
        let (placeholder, spec) = (placeholder.to_owned(), spec.to_owned());
        Ok(Piece::Value { placeholder, span, value, spec })
    }

    fn check(&self, value: &Expr) -> std::result::Result<(), String> {
        match value {
            Expr::Path(path) => match name_of(path) {
                Some(name) => self.scope.find(name),
                None => Err(WHAT_GOES.to_owned()),
            },
            Expr::Field(field) => match &field.member {
                Member::Named(_) | Member::Unnamed(_) => self.check(&field.base),
            },
            Expr::MethodCall(call) if call.args.is_empty() => self.check(&call.receiver),
            Expr::MethodCall(call) => {
                Err(format!("`{}` takes arguments: {WHAT_GOES}", call.method))
            }
            Expr::Index(index) => {
                self.check(&index.expr)?;
                self.check_index(&index.index)
            }
            Expr::Lit(literal) if matches!(literal.lit, Lit::Int(_)) => {
                Err("arguments go by name, not by number".to_owned())
            }
            _ => Err(WHAT_GOES.to_owned()),
        }
    }

    fn check_index(&self, index: &Expr) -> std::result::Result<(), String> {
        match index {
            Expr::Lit(_) => Ok(()),
            Expr::Path(path) => match name_of(path) {
                Some(name) => self.scope.find(name).map_err(|why| {
                    format!("{why}; a key is written in quotes, as in `[\"{name}\"]`")
                }),
                None => Err(WHAT_GOES.to_owned()),
            },
            _ => Err(WHAT_GOES.to_owned()),
        }
    }

    fn error(&self, placeholder: &str, why: &str) -> Error {
        Error::new(self.span_of(placeholder), format!("`{placeholder}`: {why}"))
    }

    /// Where the placeholder stands, if the compiler tells; else where the literal does.
    fn span_of(&self, placeholder: &str) -> Span {
        let token = self.literal.token();
        let source = token.to_string();
        let at = source.find(placeholder);
        at.and_then(|at| token.subspan(at..at + placeholder.len()))
            .unwrap_or_else(|| self.literal.span())
    }
}

const WHAT_GOES: &str =
    "only arguments go here, with fields, methods without arguments, and indices in brackets";

fn name_of(path: &ExprPath) -> Option<&Ident> {
    if path.qself.is_some() { None } else { path.path.get_ident() }
}

fn is_f_name(value: &Expr) -> bool {
    matches!(value, Expr::Path(path) if path.path.is_ident("f_name"))
}

/// Just behind the brace that closes the one `text` begins with.
fn end_of(text: &str) -> Option<usize> {
    outside_quotes(text).find(|(_, c)| *c == '}').map(|(at, _)| at + 1)
}

/// The value, and how it is shown.
fn split_spec(inner: &str) -> (&str, &str) {
    match outside_quotes(inner).find(|(_, c)| *c == ':') {
        // `::` begins a path, which is refused as such.
        Some((at, _)) if !inner[at..].starts_with("::") => (&inner[..at], &inner[at + 1..]),
        _ => (inner, ""),
    }
}

fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let quote = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        if quote {
            quoted = !quoted;
        }
        !quoted && !quote
    })
}

/// Expands whatever is written, as a fuzzer does.
///
/// # Panics
/// If that makes neither an expression nor an error that says something.
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "the fuzzer takes this file by itself"))]
pub(crate) fn replay(template: &str) {
    let function = quote!(
        fn grow(&self, share: Share, id: u32, (snap, r#type): (Snap, Type)) {}
    );
    let function: syn::ItemFn = syn::parse2(function).expect("a function");
    let literal = LitStr::new(template, Span::call_site());
    match expand(&literal, &Scope::of(&function.sig)) {
        Ok(name) => drop(syn::parse2::<Expr>(name).expect("an expression")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
#[test]
fn each_entry_is_an_expression_or_an_error() {
    use std::{fs, path::Path};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora/template");
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("a folder that can be read").path();
        println!("{}", path.display());
        replay(&String::from_utf8_lossy(&fs::read(path).expect("a file that can be read")));
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}
