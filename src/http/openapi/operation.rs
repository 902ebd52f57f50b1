//! One route as the document shows it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, schema::Schema};

use super::codes;

/// What an API key must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Nothing: anyone may ask.
    Open,
    /// A user's own token instead of a key.
    User,
    /// Either.
    Ticket,
    /// To send.
    Push,
    /// To look.
    Read,
    /// To change what others do.
    Admin,
}

type Collect = fn(&mut Vec<(String, RefOr<Schema>)>);

/// One route: what is asked, what is answered, how it refuses.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) parameters: Vec<Value>,
    summary: &'static str,
    description: &'static str,
    scope: Scope,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    problems: Vec<&'static str>,
    samples: Vec<Value>,
    collect: Vec<Collect>,
}

/// Where a schema stands in the document.
fn reference<T: ToSchema>() -> Value {
    json!({"$ref": format!("#/components/schemas/{}", T::name())})
}

fn collect<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

impl Operation {
    pub(super) fn new(method: &'static str, path: &'static str, id: &'static str, tag: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            tag,
            parameters: Vec::new(),
            summary: "",
            description: "",
            scope: Scope::Open,
            body: None,
            answers: BTreeMap::new(),
            problems: Vec::new(),
            samples: Vec::new(),
            collect: Vec::new(),
        }
    }

    pub(super) fn says(mut self, summary: &'static str, description: &'static str) -> Self {
        (self.summary, self.description) = (summary, description);
        self
    }

    pub(super) fn needs(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// A parameter of a type of ours in the path.
    pub(super) fn in_path<T: ToSchema>(mut self, name: &str, description: &str) -> Self {
        self.collect.push(collect::<T>);
        let schema = reference::<T>();
        self.parameters.push(
            json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema}),
        );
        self
    }

    /// An optional parameter anywhere else.
    pub(super) fn takes(mut self, place: &str, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": place, "required": place == "path", "description": description, "schema": schema,
        }));
        self
    }

    /// A parameter in the query that has to be there.
    pub(super) fn asks(mut self, name: &str, description: &str, schema: Value) -> Self {
        self.parameters.push(
            json!({"name": name, "in": "query", "required": true, "description": description, "schema": schema}),
        );
        self
    }

    pub(super) fn body<T: ToSchema>(mut self, example: Value) -> Self {
        self.collect.push(collect::<T>);
        let content = json!({"schema": reference::<T>(), "example": example});
        self.body = Some(json!({"required": true, "content": {"application/json": content}}));
        self
    }

    pub(super) fn answers<T: ToSchema>(self, status: u16, description: &str, example: Value) -> Self {
        let mut this = self;
        this.collect.push(collect::<T>);
        this.answers_as(status, description, "application/json", reference::<T>(), Some(example))
    }

    /// An answer that needs no example.
    pub(super) fn answers_from<T: ToSchema>(mut self, status: u16, description: &str) -> Self {
        self.collect.push(collect::<T>);
        self.answers_as(status, description, "application/json", reference::<T>(), None)
    }

    /// One object for one recipient, a list for several.
    pub(super) fn answers_one_or_many<One: ToSchema, Many: ToSchema>(
        mut self,
        status: u16,
        description: &str,
        example: Value,
    ) -> Self {
        self.collect.extend([collect::<One> as Collect, collect::<Many>]);
        let many = json!({"type": "array", "items": reference::<Many>()});
        let schema = json!({"oneOf": [reference::<One>(), many]});
        self.answers_as(status, description, "application/json", schema, Some(example))
    }

    /// Another form of the same answer.
    pub(super) fn also_as(mut self, status: u16, content_type: &str, schema: Value) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["content"][content_type] = json!({"schema": schema});
        }
        self
    }

    /// An answer whose schema is no type of ours.
    pub(super) fn answers_as(
        mut self,
        status: u16,
        description: &str,
        content_type: &str,
        schema: Value,
        example: Option<Value>,
    ) -> Self {
        let mut content = json!({"schema": schema});
        if let Some(example) = example {
            content["example"] = example;
        }
        let answer = json!({
            "description": description,
            "headers": {"X-Request-Id": request_id()},
            "content": {content_type: content},
        });
        self.answers.insert(status, answer);
        self
    }

    /// An answer without a body.
    pub(super) fn answers_empty(mut self, status: u16, description: &str) -> Self {
        self.answers
            .insert(status, json!({"description": description, "headers": {"X-Request-Id": request_id()}}));
        self
    }

    /// How it refuses, besides what its scope brings with it.
    pub(super) fn refuses(mut self, problems: &[&'static str]) -> Self {
        self.problems.extend(problems);
        self
    }

    /// A program that does it; the tests run the same file.
    pub(super) fn sample(mut self, lang: &str, label: &str, source: &str) -> Self {
        self.samples.push(json!({"lang": lang, "label": label, "source": source.trim_end()}));
        self
    }

    /// Everything its bodies and answers refer to.
    pub(super) fn schemas(&self) -> BTreeMap<String, Value> {
        let mut schemas = Vec::new();
        for collect in &self.collect {
            collect(&mut schemas);
        }
        let render = |schema: RefOr<Schema>| serde_json::to_value(schema).expect("a schema is JSON");
        schemas.into_iter().map(|(name, schema)| (name, render(schema))).collect()
    }

    pub(super) fn render(&self) -> Value {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("operationId", json!(self.id));
        set("tags", json!([self.tag]));
        set("summary", json!(self.summary));
        set("description", json!(self.description));
        set("parameters", json!(self.parameters));
        set("security", self.security());
        if let Some(body) = &self.body {
            set("requestBody", body.clone());
        }
        if !self.samples.is_empty() {
            set("x-codeSamples", json!(self.samples));
        }
        let mut responses: BTreeMap<String, Value> =
            self.answers.iter().map(|(status, answer)| (status.to_string(), answer.clone())).collect();
        for (status, problems) in self.problems_by_status() {
            let problem = problem_answer(status, &problems);
            responses
                .entry(status.to_string())
                .and_modify(|answer| answer["content"]["application/problem+json"] = problem_content())
                .or_insert(problem);
        }
        set("responses", json!(responses));
        Value::Object(fields)
    }

    fn security(&self) -> Value {
        match self.scope {
            Scope::Open => json!([]),
            Scope::User => json!([{"userToken": []}, {"userCookie": []}]),
            Scope::Ticket => json!([{"apiKey": ["tickets"]}, {"userToken": []}, {"userCookie": []}]),
            Scope::Push => json!([{"apiKey": ["push"]}]),
            Scope::Read => json!([{"apiKey": ["read"]}]),
            Scope::Admin => json!([{"apiKey": ["admin"]}]),
        }
    }

    fn problems_by_status(&self) -> BTreeMap<u16, Vec<&'static codes::Code>> {
        let keyed = matches!(self.scope, Scope::Ticket | Scope::Push | Scope::Read | Scope::Admin);
        let implied = if keyed { &["unauthorized", "forbidden", "auth_unavailable"][..] } else { &[] };
        let mut by_status: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for problem in self.problems.iter().chain(implied) {
            let code = codes::find(problem);
            by_status.entry(code.status).or_default().push(code);
        }
        by_status
    }
}

fn request_id() -> Value {
    json!({"description": "The request's id: yours or a fresh one.", "schema": {"type": "string"}})
}

fn rate_limit(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

fn problem_content() -> Value {
    json!({"schema": {"$ref": "#/components/schemas/Problem"}})
}

fn problem_answer(status: u16, problems: &[&codes::Code]) -> Value {
    let when: Vec<_> = problems.iter().map(|code| format!("`{}`: {}", code.code, code.when)).collect();
    let mut headers = json!({"X-Request-Id": request_id()});
    if status == 429 {
        headers["RateLimit"] = rate_limit("How much may still be pushed, and when all of it is there again.");
        headers["RateLimit-Policy"] = rate_limit("How much may be pushed in a second.");
    }
    if matches!(status, 429 | 503 | 507) {
        headers["Retry-After"] =
            json!({"description": "Seconds after which to try again.", "schema": {"type": "integer"}});
    }
    json!({
        "description": format!("{}.", when.join("; ")),
        "headers": headers,
        "content": {"application/problem+json": problem_content()},
    })
}
