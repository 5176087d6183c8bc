//! From an annotated function to one whose body begins with a guard.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    AttrStyle, Attribute, Block, Error, Expr, ItemFn, Meta, Result, ReturnType, Signature, Stmt,
    StmtMacro, Type, TypeParamBound,
};

use crate::args::{Args, OnError, WHICH, What};
use crate::order;
use crate::template::{self, Scope};

pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut function: ItemFn = parse_function(item)?;
    check_signature(&function.sig)?;
    let mut annotations = vec![syn::parse2(args)?];
    annotations.extend(take_others(&mut function.attrs)?);
    check_first_of_its_name(&function)?;
    let body = body(&function, &annotations)?;
    let ItemFn { attrs, vis, sig, .. } = &function;
    let outer = attrs.iter().filter(|attr| matches!(attr.style, AttrStyle::Outer));
    Ok(quote!(#(#outer)* #vis #sig #body))
}

fn parse_function(item: TokenStream) -> Result<ItemFn> {
    let span = item.clone().into_iter().next().map_or_else(Span::call_site, |token| token.span());
    syn::parse2(item.clone()).map_err(|error| {
        if syn::parse2::<syn::TraitItemFn>(item.clone()).is_ok() {
            return Error::new_spanned(
                &item,
                "a function without a body has nothing to hold a lock for: annotate its implementations",
            );
        }
        match syn::parse2::<syn::Item>(item) {
            Ok(_) => Error::new(span, "`ssynchronized` goes on a function or a method"),
            Err(_) => error,
        }
    })
}

fn check_signature(signature: &Signature) -> Result<()> {
    let refused = |what: &dyn ToTokens, why: &str| Err(Error::new_spanned(what, why));
    if let Some(keyword) = &signature.constness {
        return refused(
            keyword,
            "a `const` function may run in the compiler, where no lock is: annotate its callers",
        );
    }
    if let Some(keyword) = &signature.unsafety {
        return refused(
            keyword,
            "what the caller of an `unsafe` function vouches for may change while the lock is waited for: \
             annotate a safe function that calls it",
        );
    }
    if let Some(abi) = &signature.abi {
        return refused(
            abi,
            "an `extern` function is called by code that knows no errors and no panics: annotate a function that it calls",
        );
    }
    match &signature.output {
        ReturnType::Type(_, output) if signature.asyncness.is_none() && is_future(output) => {
            refused(
                output,
                "the lock would be released before this future runs: make it an `async fn`",
            )
        }
        _ => Ok(()),
    }
}

fn is_future(output: &Type) -> bool {
    let last = |path: &syn::Path| path.segments.last().map(|segment| segment.ident.to_string());
    let of_trait = |bound: &TypeParamBound| match bound {
        TypeParamBound::Trait(bound) => last(&bound.path).as_deref() == Some("Future"),
        _ => false,
    };
    match output {
        Type::ImplTrait(output) => output.bounds.iter().any(of_trait),
        Type::TraitObject(output) => output.bounds.iter().any(of_trait),
        Type::Path(output) => match (last(&output.path).as_deref(), output.path.segments.last()) {
            (Some("BoxFuture" | "LocalBoxFuture"), _) => true,
            (Some("Pin" | "Box"), Some(segment)) => match &segment.arguments {
                syn::PathArguments::AngleBracketed(inner) => inner.args.iter().any(
                    |inner| matches!(inner, syn::GenericArgument::Type(inner) if is_future(inner)),
                ),
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// The annotations below the first: expanded one by one, the last would come to be the outermost.
fn take_others(attributes: &mut Vec<Attribute>) -> Result<Vec<Args>> {
    let is_one = |attribute: &Attribute| {
        attribute.path().segments.last().is_some_and(|last| last.ident == "ssynchronized")
    };
    let (others, rest): (Vec<_>, Vec<_>) = std::mem::take(attributes).into_iter().partition(is_one);
    *attributes = rest;
    let parse = |other: &Attribute| match &other.meta {
        Meta::List(list) => list.parse_args(),
        meta => Err(Error::new_spanned(meta, WHICH)),
    };
    others.iter().map(parse).collect()
}

/// An annotation that the one above did not know as such would be outside of it.
fn check_first_of_its_name(function: &ItemFn) -> Result<()> {
    if function.block.to_token_stream().to_string().contains("__tierlock_held") {
        return Err(Error::new(
            Span::call_site(),
            "the order of two annotations is known only if both are called `ssynchronized`",
        ));
    }
    Ok(())
}

fn body(function: &ItemFn, annotations: &[Args]) -> Result<TokenStream> {
    let ItemFn { attrs, sig, block, .. } = function;
    let inner = attrs.iter().filter(|attr| matches!(attr.style, AttrStyle::Inner(_)));
    let checks = order::checks(annotations)?;
    let scope = Scope::of(sig);
    let guards = annotations.iter().map(|args| guard(args, sig, &scope));
    let guards = guards.collect::<Result<Vec<_>>>()?;
    let block = without_braces(block);
    let is_task = sig.asyncness.is_some() && annotations.iter().any(|args| args.owner.is_none());
    // The braces are this crate's, so that its edition says when temporaries of the body's end are dropped: before the guard.
    if !is_task {
        return Ok(quote_spanned! {Span::mixed_site()=> { #(#inner)* #checks #(#guards)* #block }});
    }
    let name = sig.ident.to_string();
    Ok(quote_spanned! {Span::mixed_site()=> {
        #(#inner)*
        #checks
        ::tierlock::annotation::task(#name, async move { #(#guards)* #block }).await
    }})
}

/// A block with braces of the user's, which are there for what is bound in it: around a sole expression they would be found
/// unnecessary.
fn without_braces(block: &Block) -> TokenStream {
    match &block.stmts[..] {
        [Stmt::Expr(value, None)] => value.to_token_stream(),
        [Stmt::Macro(StmtMacro { mac, attrs, semi_token: None })] if attrs.is_empty() => {
            mac.to_token_stream()
        }
        _ => block.to_token_stream(),
    }
}

fn guard(args: &Args, signature: &Signature, scope: &Scope) -> Result<TokenStream> {
    let request = request(args, scope)?;
    let had = match (args.now, signature.asyncness) {
        (true, _) => quote!(.now()),
        (false, None) => quote!(.wait()),
        (false, Some(_)) => quote!(.await),
    };
    let failure = failure(args, signature)?;
    Ok(quote_spanned! {Span::mixed_site()=>
        let __tierlock_asked = #request;
        let __tierlock_held = match __tierlock_asked #had {
            ::core::result::Result::Ok(held) => held,
            ::core::result::Result::Err(error) => return #failure,
        };
    })
}

fn request(args: &Args, scope: &Scope) -> Result<TokenStream> {
    let Args { what, mode, priority, limit, owner, .. } = args;
    let owner = owner.as_ref().map(borrowed);
    let make = match (what, &owner) {
        (What::Lock(_), None) => quote!(lock),
        (What::Lock(_), Some(_)) => quote!(lock_as),
        (What::Name { .. }, None) => quote!(within),
        (What::Name { .. }, Some(_)) => quote!(within_as),
    };
    let owner = owner.map(|owner| quote!(#owner,));
    let what = match what {
        What::Lock(lock) => borrowed(lock),
        What::Name { template, place } => {
            let (place, name) = (borrowed(place), template::expand(template, scope)?);
            quote!(#place, #name)
        }
    };
    let priority = priority.as_ref().map(|priority| quote!(.priority(#priority)));
    Ok(quote!(::tierlock::annotation::#make(#owner #what, #mode) #priority #limit))
}

fn borrowed(value: &Expr) -> TokenStream {
    match value {
        Expr::Call(_)
        | Expr::Field(_)
        | Expr::Index(_)
        | Expr::Macro(_)
        | Expr::MethodCall(_)
        | Expr::Paren(_)
        | Expr::Path(_) => quote_spanned!(value.span()=> &#value),
        _ => quote_spanned!(value.span()=> &(#value)),
    }
}

/// What is returned if the lock is not acquired.
fn failure(args: &Args, signature: &Signature) -> Result<TokenStream> {
    // In a block inside of the function, the first `return` has to say what it returns.
    let returns = match &signature.output {
        ReturnType::Type(_, output) if signature.asyncness.is_some() && can_be_named(output) => {
            quote!(::<#output>)
        }
        _ => quote!(),
    };
    match (&args.on_error, &signature.output) {
        (Some(OnError::Panic(span)), _) => {
            Ok(quote_spanned!(at(*span)=> ::tierlock::annotation::panicked #returns (error)))
        }
        (Some(OnError::Handle(handle)), _) => Ok(
            quote_spanned!(at(handle.span())=> ::tierlock::annotation::handled #returns (error, #handle)),
        ),
        (None, ReturnType::Type(_, output)) => {
            Ok(quote_spanned!(at(output.span())=> ::tierlock::annotation::failed #returns (error)))
        }
        (None, ReturnType::Default) => Err(Error::new(
            signature.ident.span(),
            format!(
                "`{}` returns nothing, so it cannot say that its lock was not acquired: say what is to happen then, \
                 `on_error = panic` or `on_error = |error| ..`",
                signature.ident
            ),
        )),
    }
}

/// A place to point at, in code whose names are this crate's.
fn at(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

fn can_be_named(output: &Type) -> bool {
    let has_impl = output
        .to_token_stream()
        .to_string()
        .split_whitespace()
        .any(|word| word.trim_matches(|c: char| !c.is_alphanumeric() && c != '_') == "impl");
    !has_impl && !matches!(output, Type::Never(_))
}
