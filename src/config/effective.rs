//! Every value that is in force, and who said so.

use std::fmt::Write as _;

use super::build::Built;
use super::layers::Held;
use super::layers::Merged;
use super::layers::Origin;
use super::value::Value;

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// `timeout.total`; a block that is off is one entry, `retry`.
    pub path: String,
    /// As it would be written: `2s`, `20%`, `off`.
    pub value: String,
    /// `builtin`, `defaults:2`, `profile third-party:4`, `upstreams[0]:7`, `upstreams[0].routes[1]:9`; with the file's name
    /// before it if the policy has several.
    pub origin: String,
}

/// All values of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveRoute {
    /// Index into [`super::Policy::upstreams`]; `None` for unmatched traffic.
    pub upstream_index: Option<usize>,
    /// The `upstream` text, or `(unmatched)`.
    pub upstream: String,
    /// The `match` text, or `*` for the base.
    pub route: String,
    /// In the order of the language.
    pub values: Vec<Effect>,
}

/// All values of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    /// The top of the file, `listen` and `telemetry`.
    pub global: Vec<Effect>,
    /// Unmatched traffic first, then for each upstream its base and its routes, in the order of the policy.
    pub routes: Vec<EffectiveRoute>,
}

impl Effective {
    /// The values of one route: the upstream by its index in the policy (`None` is unmatched traffic), the route by its name.
    #[must_use]
    pub fn find(&self, upstream: Option<usize>, route: &str) -> Option<&EffectiveRoute> {
        self.routes
            .iter()
            .find(|known| known.upstream_index == upstream && known.route == route)
    }

    /// The text of `policy show --expanded`: one value a line, its origin behind it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        section(&mut out, "policy", &self.global);
        for route in &self.routes {
            let title = if route.route == "*" {
                route.upstream.clone()
            } else {
                format!("{} {}", route.upstream, route.route)
            };
            out.push('\n');
            section(&mut out, &title, &route.values);
        }
        out
    }
}

fn section(out: &mut String, title: &str, values: &[Effect]) {
    let widest = |of: fn(&Effect) -> &str| {
        values
            .iter()
            .map(|effect| of(effect).chars().count())
            .max()
            .unwrap_or(0)
    };
    // One long list must not push every origin off the screen.
    let (path, value) = (
        widest(|effect| &effect.path),
        widest(|effect| &effect.value).min(24),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{title}");
    for effect in values {
        let _ = writeln!(
            out,
            "  {:path$}  {:value$}  {}",
            effect.path, effect.value, effect.origin
        );
    }
}

/// Keys that say which calls a block is about, and blocks that are listed by themselves.
const NOT_LISTED: &[&str] = &[
    "apiVersion",
    "kind",
    "upstream",
    "match",
    "use",
    "routes",
    "upstreams",
    "profiles",
    "defaults",
];

pub(super) fn list(built: &Built) -> Effective {
    let mut effective = Effective {
        global: values(&built.root),
        routes: Vec::new(),
    };
    let mut add = |upstream_index, upstream: &str, route: &str, merged: &Merged| {
        let (upstream, route) = (upstream.to_owned(), route.to_owned());
        effective.routes.push(EffectiveRoute {
            upstream_index,
            upstream,
            route,
            values: values(merged),
        });
    };
    add(None, "(unmatched)", "*", &built.fallback);
    for (index, upstream) in built.upstreams.iter().enumerate() {
        add(Some(index), &upstream.name, "*", &upstream.merged);
        for route in &upstream.routes {
            add(Some(index), &upstream.name, &route.name, &route.merged);
        }
    }
    effective
}

fn values(merged: &Merged) -> Vec<Effect> {
    let mut all = Vec::new();
    block(merged, "", &mut all);
    all
}

fn block(merged: &Merged, prefix: &str, all: &mut Vec<Effect>) {
    let mut add = |path: String, value: String, origin: &Origin| {
        all.push(Effect {
            path,
            value,
            origin: origin.text.clone(),
        });
    };
    if !merged.on {
        add(prefix.to_owned(), "off".to_owned(), &merged.origin);
        return;
    }
    for field in &merged.fields {
        // What this version does not enforce can only be off.
        let later = field.key.later.is_some_and(<[&str]>::is_empty);
        if later || (prefix.is_empty() && NOT_LISTED.contains(&field.key.name)) {
            continue;
        }
        let path = if prefix.is_empty() {
            field.key.name.to_owned()
        } else {
            format!("{prefix}.{}", field.key.name)
        };
        match &field.held {
            Held::Value(Value::Unset, _) => {}
            Held::Value(value, origin) => all.push(Effect {
                path,
                value: value.to_string(),
                origin: origin.text.clone(),
            }),
            Held::Block(inner) => block(inner, &path, all),
        }
    }
}
