//! Checks a document against the registry and keeps what fits. Every fault goes to the sink; a value that does not fit is
//! left out, so that one slip never hides the next.

use super::dom::Key as NodeKey;
use super::dom::Kind as NodeKind;
use super::dom::Node;
use super::dom::Span;
use super::fault::Place;
use super::fault::Sink;
use super::fault::code;
use super::source::Document;
use super::spec::Key;
use super::spec::Kind;
use super::spec::Switch;
use super::spec::Table;
use super::spec::root;
use super::spec::upstream;
use super::suggest;
use super::value;
use super::value::Value;

/// A block as one layer wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) place: Place,
    pub(crate) entries: Vec<Entry>,
}

/// One key of a block and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: &'static Key,
    pub(crate) key_at: Place,
    pub(crate) at: Place,
    pub(crate) value: Value,
}

impl Block {
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.name == name)
    }

    /// The value that was written in place of a block, if it was.
    pub(crate) fn as_short(&self) -> Option<&Value> {
        match self.entries.as_slice() {
            // A key has a place of its own in a block that was written as one.
            [only] if only.key_at == self.place => Some(&only.value),
            _ => None,
        }
    }

    /// Switched off by its own `mode`.
    pub(crate) fn is_off(&self) -> bool {
        self.entry("mode")
            .is_some_and(|entry| matches!(entry.value, Value::Word("off")))
    }
}

/// Decodes a document. The short form, a file that is itself one upstream, comes back as a policy with one upstream.
pub(crate) fn document(document: &Document, sink: &mut Sink) -> Block {
    let mut decoder = Decoder {
        sink,
        file: document.file,
        single: false,
    };
    let NodeKind::Map(pairs) = &document.node.kind else {
        // `source::documents` returns mappings only.
        return Block {
            place: decoder.place(document.node.span),
            entries: Vec::new(),
        };
    };
    if pairs.iter().any(|(key, _)| key.text == "upstream") {
        decoder.single(pairs, document.node.span)
    } else {
        decoder.block(&root::ROOT, pairs, document.node.span)
    }
}

type Pairs = [(NodeKey, Node)];

struct Decoder<'a> {
    sink: &'a mut Sink,
    file: usize,
    /// The file is one upstream, so the keys around it stand beside its own.
    single: bool,
}

impl Decoder<'_> {
    fn place(&self, span: Span) -> Place {
        Place {
            file: self.file,
            span,
        }
    }

    /// A file that is one upstream: its own keys go to the upstream, the others to the policy around it.
    fn single(&mut self, pairs: &Pairs, span: Span) -> Block {
        self.single = true;
        let (mut around, mut inside) = (Vec::new(), Vec::new());
        for (key, node) in pairs {
            if key.text == "upstreams" {
                let hint =
                    "keep one of the two; a list entry begins with `- upstream: host`".to_owned();
                let message = "a file is one upstream or a list of `upstreams`, not both";
                let place = self.place(key.span);
                self.sink.add(code::CONFLICT, place, message, Some(hint));
            } else if upstream::UPSTREAM.key(&key.text).is_none()
                && root::ROOT.key(&key.text).is_some()
            {
                around.push((key.clone(), node.clone()));
            } else {
                inside.push((key.clone(), node.clone()));
            }
        }
        let one = self.block(&upstream::UPSTREAM, &inside, span);
        let mut root = self.block(&root::ROOT, &around, span);
        if let Some(key) = root::ROOT.key("upstreams") {
            let at = one.place;
            root.entries.push(Entry {
                key,
                key_at: at,
                at,
                value: Value::List(vec![(Value::Block(one), at)]),
            });
        }
        root
    }

    fn block(&mut self, table: &'static Table, pairs: &Pairs, span: Span) -> Block {
        let mut block = Block {
            place: self.place(span),
            entries: Vec::new(),
        };
        let mut seen: Vec<&NodeKey> = Vec::new();
        for (key, node) in pairs {
            if let Some(first) = seen.iter().find(|first| first.text == key.text) {
                let message = format!("`{}` appears twice in {}", key.text, table.name);
                let hint = format!("the first is at {}:{}", first.span.line, first.span.column);
                let place = self.place(key.span);
                self.sink
                    .add(code::DUPLICATE_KEY, place, message, Some(hint));
                continue;
            }
            seen.push(key);
            let Some(known) = table.key(&key.text) else {
                self.unknown(table, key);
                continue;
            };
            if let Some(value) = self.value(table, known, key, node) {
                let (key_at, at) = (self.place(key.span), self.place(node.span));
                self.enforced(known, key_at, &value);
                block.entries.push(Entry {
                    key: known,
                    key_at,
                    at,
                    value,
                });
            }
        }
        if !block.is_off() {
            for key in table
                .keys
                .iter()
                .filter(|key| key.required && !seen.iter().any(|seen| seen.text == key.name))
            {
                let message = format!("{} needs `{}`", table.name, key.name);
                self.sink.add(
                    code::MISSING_KEY,
                    block.place,
                    message,
                    Some(format!("add `{}`: {}", key.name, lower_first(key.doc))),
                );
            }
        }
        block
    }

    /// Refuses what is understood but not enforced.
    fn enforced(&mut self, key: &'static Key, at: Place, value: &Value) {
        let Some(accepted) = key.later else { return };
        let fine = match value {
            Value::Off => accepted.is_empty(),
            Value::Block(block) => accepted.is_empty() && block.is_off(),
            Value::Word(word) => accepted.contains(word),
            Value::Flag(flag) => accepted.contains(&if *flag { "true" } else { "false" }),
            _ => false,
        };
        if fine {
            return;
        }
        let named = match value {
            Value::Word(word) => format!("`{}: {word}`", key.name),
            Value::Flag(flag) => format!("`{}: {flag}`", key.name),
            _ => format!("`{}`", key.name),
        };
        let can_be_off = match key.kind {
            Kind::Block(table) => table.switch != Switch::Always,
            Kind::Or(kinds) => {
                accepted.is_empty() && kinds.iter().any(|kind| matches!(kind, Kind::Off))
            }
            _ => false,
        };
        let alone = match value {
            Value::Word("global") => Some("with `scope: pod` each pod counts for itself"),
            _ => None,
        };
        if let Some(hint) = alone {
            let message = format!(
                "{named} needs the shared tier (`redis`), which this version of outrider does not have yet"
            );
            let hint = hint.to_owned();
            self.sink.add(code::NOT_ENFORCED, at, message, Some(hint));
            return;
        }
        let hint = match accepted.first() {
            Some(word) => format!("use `{word}` or leave it out"),
            None if can_be_off => "remove it or set it to `off`".to_owned(),
            None => "remove it".to_owned(),
        };
        self.sink.add(
            code::NOT_ENFORCED,
            at,
            format!("{named} is not enforced by this version of outrider"),
            Some(hint),
        );
    }

    fn value(
        &mut self,
        table: &'static Table,
        known: &'static Key,
        key: &NodeKey,
        node: &Node,
    ) -> Option<Value> {
        if matches!(node.kind, NodeKind::Null) {
            let hint = match known.kind {
                Kind::Block(block) if block.switch != Switch::Always => {
                    format!("`{0}: {{}}` enables it, `{0}: off` disables it", known.name)
                }
                _ => "write a value, or leave the key out".to_owned(),
            };
            let place = self.place(key.span);
            self.sink.add(
                code::NO_VALUE,
                place,
                format!("`{}` has no value", known.name),
                Some(hint),
            );
            return None;
        }
        let what = if table.name.ends_with(known.name) {
            format!("`{}`", known.name)
        } else {
            format!("`{}` in {}", known.name, table.name)
        };
        self.typed(&known.kind, &what, node)
    }

    /// Decodes by kind. `what` names the key in faults.
    fn typed(&mut self, kind: &'static Kind, what: &str, node: &Node) -> Option<Value> {
        match (kind, &node.kind) {
            (Kind::Or(kinds), NodeKind::Map(_)) => {
                match kinds.iter().find(|kind| matches!(kind, Kind::Block(_))) {
                    Some(block) => self.typed(block, what, node),
                    None => self.shape(kind, what, node),
                }
            }
            (Kind::Or(kinds), NodeKind::Seq(_)) => {
                match kinds.iter().find(|kind| matches!(kind, Kind::List(..))) {
                    Some(list) => self.typed(list, what, node),
                    None => self.shape(kind, what, node),
                }
            }
            (Kind::Block(table), NodeKind::Map(pairs)) => {
                Some(Value::Block(self.block(table, pairs, node.span)))
            }
            (Kind::Block(table), NodeKind::Scalar(text)) => self.short(table, what, text, node),
            (Kind::Block(table), NodeKind::Seq(_)) => match table
                .short
                .and_then(|short| table.key(short))
            {
                Some(key) if matches!(key.kind, Kind::List(..)) => self.shortened(key, what, node),
                _ => self.shape(kind, what, node),
            },
            (Kind::Named(table), NodeKind::Map(pairs)) => Some(self.named(table, what, pairs)),
            (Kind::List(of, least), NodeKind::Seq(items)) => {
                self.list(of, *least, what, items, node)
            }
            (_, NodeKind::Scalar(text)) => match value::scalar(kind, text) {
                Ok(value) => Some(value),
                Err((code, _)) if code == code::UNIT && value::is_off(text) => {
                    let place = self.place(node.span);
                    self.sink.add(
                        code::NOT_OFF,
                        place,
                        format!("{what} cannot be off"),
                        Some(format!("write {}", kind.expected())),
                    );
                    None
                }
                Err((code, fault)) => {
                    let place = self.place(node.span);
                    if kind.may_hold_secret() {
                        self.sink.hide(place);
                    }
                    let message = format!("{what}: {}", fault.message);
                    self.sink.add(code, place, message, fault.hint);
                    None
                }
            },
            _ => self.shape(kind, what, node),
        }
    }

    fn shape(&mut self, kind: &Kind, what: &str, node: &Node) -> Option<Value> {
        let found = match &node.kind {
            NodeKind::Null => "nothing",
            NodeKind::Scalar(..) => "a scalar",
            NodeKind::Seq(_) => "a list",
            NodeKind::Map(_) => "a block",
        };
        let place = self.place(node.span);
        self.sink.add(
            code::SHAPE,
            place,
            format!("{what}: expected {}, found {found}", kind.expected()),
            None,
        );
        None
    }

    /// A bare scalar where a block belongs: off, the short form, or a slip.
    fn short(
        &mut self,
        table: &'static Table,
        what: &str,
        text: &str,
        node: &Node,
    ) -> Option<Value> {
        let short = table.short.and_then(|short| table.key(short));
        let says_off = short
            .is_some_and(|key| matches!(key.kind, Kind::Words(words) if words.contains(&"off")));
        if value::is_off(text) && !says_off {
            if table.switch != Switch::Always {
                return Some(Value::Off);
            }
            let hint = match table.name {
                "timeout" => "a long one does it: `timeout: 24h`",
                "budget" => {
                    "`budget: 0%` with `floor: 0/s` stops all retries; `budget: 100%` hardly bounds them"
                }
                _ => "leave it out",
            };
            let place = self.place(node.span);
            self.sink.add(
                code::NOT_OFF,
                place,
                format!("{what} cannot be off"),
                Some(hint.to_owned()),
            );
            return None;
        }
        if value::is_on(text) && table.switch != Switch::Always {
            let place = self.place(node.span);
            let hint = format!("`{}: {{}}` enables it with the built-in values", table.name);
            self.sink.add(
                code::SHAPE,
                place,
                format!("{what}: `{text}` does not say what"),
                Some(hint),
            );
            return None;
        }
        if let Some(key) = short {
            return self.shortened(key, what, node);
        }
        let place = self.place(node.span);
        let known: Vec<String> = table
            .keys
            .iter()
            .take(4)
            .map(|key| format!("`{}`", key.name))
            .collect();
        let hint = format!("write `{{ ... }}` with keys such as {}", known.join(", "));
        let message = format!("{what}: expected a block, found `{text}`");
        self.sink.add(code::SHAPE, place, message, Some(hint));
        None
    }

    fn shortened(&mut self, key: &'static Key, what: &str, node: &Node) -> Option<Value> {
        let value = self.typed(&key.kind, what, node)?;
        let at = self.place(node.span);
        Some(Value::Block(Block {
            place: at,
            entries: vec![Entry {
                key,
                key_at: at,
                at,
                value,
            }],
        }))
    }

    fn named(&mut self, table: &'static Table, what: &str, pairs: &Pairs) -> Value {
        let mut all: Vec<(String, Place, Block)> = Vec::new();
        for (key, node) in pairs {
            let place = self.place(key.span);
            if let Some((_, first, _)) = all.iter().find(|(name, ..)| *name == key.text) {
                let hint = format!("the first is at {}:{}", first.span.line, first.span.column);
                self.sink.add(
                    code::DUPLICATE_KEY,
                    place,
                    format!("{what}: `{}` appears twice", key.text),
                    Some(hint),
                );
                continue;
            }
            let block = match &node.kind {
                NodeKind::Map(pairs) => self.block(table, pairs, node.span),
                NodeKind::Null => {
                    self.sink.add(
                        code::NO_VALUE,
                        place,
                        format!("{what}: `{}` has no value", key.text),
                        None,
                    );
                    continue;
                }
                _ => {
                    let what = format!("{what}: `{}`", key.text);
                    let short = table.short.and_then(|short| table.key(short));
                    let Some(short) = short else {
                        self.shape(&Kind::Block(table), &what, node);
                        continue;
                    };
                    match self.shortened(short, &what, node) {
                        Some(Value::Block(block)) => block,
                        _ => continue,
                    }
                }
            };
            all.push((key.text.clone(), place, block));
        }
        Value::Named(all)
    }

    fn list(
        &mut self,
        of: &'static Kind,
        least: usize,
        what: &str,
        items: &[Node],
        node: &Node,
    ) -> Option<Value> {
        if items.len() < least {
            let place = self.place(node.span);
            self.sink.add(
                code::RANGE,
                place,
                format!("{what}: the list is empty"),
                None,
            );
            return None;
        }
        let mut values = Vec::new();
        for item in items {
            if matches!(item.kind, NodeKind::Null) {
                let place = self.place(item.span);
                self.sink.add(
                    code::NO_VALUE,
                    place,
                    format!("{what}: an entry is empty"),
                    None,
                );
            } else if let Some(value) = self.typed(of, what, item) {
                values.push((value, self.place(item.span)));
            }
        }
        // With every entry at fault, an empty list would bring up faults about an empty list.
        if values.is_empty() && !items.is_empty() {
            None
        } else {
            Some(Value::List(values))
        }
    }

    fn unknown(&mut self, table: &'static Table, key: &NodeKey) {
        let place = self.place(key.span);
        let text = key.text.as_str();
        let around = if self.single && is(table, &upstream::UPSTREAM) {
            root::ROOT.keys
        } else {
            &[]
        };
        let names = || table.keys.iter().chain(around).map(|key| key.name);
        if value::is_on(text) || value::is_off(text) {
            let hint = names().find(|name| *name == "when").map_or(
                "no key of this language is a boolean word",
                |_| "did you mean `when`?",
            );
            let message = format!("YAML 1.1 reads the key `{text}` as a boolean");
            self.sink
                .add(code::BOOLEAN_KEY, place, message, Some(hint.to_owned()));
            return;
        }
        if let Some(hint) = elsewhere(table, text) {
            self.sink.add(
                code::MISPLACED_KEY,
                place,
                format!("`{text}` does not belong in {}", table.name),
                Some(hint),
            );
            return;
        }
        let guess = suggest::foreign(text, names()).or_else(|| suggest::nearest(text, names()));
        let hint = guess.map_or_else(|| known(table), |guess| format!("did you mean `{guess}`?"));
        self.sink.add(
            code::UNKNOWN_KEY,
            place,
            format!("unknown key `{text}` in {}", table.name),
            Some(hint),
        );
    }
}

fn known(table: &'static Table) -> String {
    let enforced = table
        .keys
        .iter()
        .filter(|key| !key.later.is_some_and(<[&str]>::is_empty));
    let known: Vec<String> = enforced.map(|key| format!("`{}`", key.name)).collect();
    format!("known are {}", known.join(", "))
}

/// Whether two tables are one: each is a static, so its address is its identity.
fn is(one: &'static Table, other: &'static Table) -> bool {
    std::ptr::eq(one, other)
}

/// Where a key that exists, but not in this block, is written instead.
fn elsewhere(table: &'static Table, text: &str) -> Option<String> {
    let is = |other: &'static Table| is(table, other);
    if is(&upstream::ROUTE) && upstream::UPSTREAM.key(text).is_some() {
        return Some("it is set for the whole upstream, beside `routes`".to_owned());
    }
    if is(&root::ROOT) && upstream::UPSTREAM.key(text).is_some() {
        return Some("write it under `defaults` or in an upstream".to_owned());
    }
    if (is(&upstream::DEFAULTS) || is(&upstream::PROFILE)) && upstream::UPSTREAM.key(text).is_some()
    {
        return Some("it is written in an upstream".to_owned());
    }
    if root::ROOT.key(text).is_some() {
        return Some("it stands at the top of the file".to_owned());
    }
    // A key of exactly one block inside this one; of several, no guess is better than a wrong one.
    let mut inside = table.keys.iter().filter(|key| {
        key.block().is_some_and(|block| block.key(text).is_some()) && key.later.is_none()
    });
    let parent = inside.next()?;
    if inside.next().is_some() {
        return None;
    }
    Some(format!(
        "write it under `{0}`: `{0}: {{ {text}: ... }}`",
        parent.name
    ))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            let rest: String = chars.collect();
            format!("{}{}", first.to_lowercase(), rest.trim_end_matches('.'))
        }
        _ => text.trim_end_matches('.').to_owned(),
    }
}
