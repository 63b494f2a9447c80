//! A request held against what its service expects: first its head, then, where the head asks for it, its body.
//!
//! Each refusal has a status of its own (RFC 9110 section 15.5): what is no JSON is 400, what is too much to judge 413,
//! another media type 415, what is JSON and does not fit 422.

use terrace_http::{Known, Method, RequestHead};

use crate::json::{Json, JsonBounds, JsonError, push_quoted};
use crate::media::is_json;
use crate::openapi::{BodyKind, Misfit, OpenApi, check_text, form_as_json};
use crate::schema::{CheckBounds, Flaw, JsonSchema, Unfit};

/// What requests are held against.
#[derive(Debug, Clone)]
pub enum Validator {
    /// One schema, for the JSON body of every request that has one.
    Schema(JsonSchema),
    /// An API's description: operations, parameters, bodies.
    OpenApi(OpenApi),
}

/// What a request's body is to be held against, once it is there. It holds all it needs, so that it may be judged elsewhere.
#[derive(Debug, Clone)]
pub struct BodyCheck(Held);

#[derive(Debug, Clone)]
enum Held {
    Schema(JsonSchema),
    OpenApi(OpenApi, BodyKind),
}

/// Why a request is refused; the client's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400, 404, 405, 413, 415 or 422.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// What is wrong with which value; for 422.
    pub flaws: Vec<Flaw>,
    /// What would be taken: methods for 405 (`Allow`), media types for 415 (`Accept`, RFC 9110 section 15.5.16).
    pub instead: Option<String>,
}

impl Refusal {
    fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), flaws: Vec::new(), instead: None }
    }

    fn instead(self, instead: impl Into<String>) -> Self {
        Self { instead: Some(instead.into()), ..self }
    }

    /// The `errors` of a problem document, as JSON: an array of objects with `detail` and `pointer`, and for a parameter
    /// `parameter` and `in` (after RFC 9457 section 3).
    #[must_use]
    pub fn errors_json(&self) -> String {
        let mut json = String::from("[");
        for flaw in &self.flaws {
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str("{\"detail\":");
            push_quoted(&mut json, &flaw.detail);
            if let Some((place, name)) = &flaw.parameter {
                json.push_str(",\"in\":");
                push_quoted(&mut json, place.name());
                json.push_str(",\"parameter\":");
                push_quoted(&mut json, name);
            }
            json.push_str(",\"pointer\":");
            push_quoted(&mut json, &flaw.pointer);
            json.push_str(",\"keyword\":");
            push_quoted(&mut json, flaw.keyword);
            json.push('}');
        }
        json.push(']');
        json
    }
}

impl Validator {
    /// Holds a request's head against it. `None` where nothing depends on the body.
    ///
    /// # Errors
    /// [`Refusal`]: the request shall not go on.
    pub fn check_head(&self, head: &RequestHead, has_body: bool) -> Result<Option<BodyCheck>, Refusal> {
        if has_body && head.fields.all(Known::ContentType).nth(1).is_some() {
            // The service behind may go by the other one.
            return Err(Refusal::new(400, "the request says twice of which media type its body is"));
        }
        let held = match self {
            Self::Schema(schema) => schema_applies(head, has_body)?.then(|| Held::Schema(schema.clone())),
            Self::OpenApi(api) => {
                let kind = api.check_head(head, has_body, &CheckBounds::default());
                let kind = kind.map_err(|misfit| refused(misfit, head))?;
                kind.map(|kind| Held::OpenApi(api.clone(), kind))
            }
        };
        let is_coded = |coding: &[u8]| !coding.eq_ignore_ascii_case(b"identity");
        if held.is_some() && head.fields.all(Known::ContentEncoding).any(is_coded) {
            let detail = "a body in a content coding cannot be held against a schema; send it as it is";
            return Err(Refusal::new(415, detail));
        }
        Ok(held.map(BodyCheck))
    }
}

fn schema_applies(head: &RequestHead, has_body: bool) -> Result<bool, Refusal> {
    let takes_body = matches!(head.method, Method::Post | Method::Put | Method::Patch);
    match (has_body, takes_body) {
        (false, false) => Ok(false),
        (false, true) => Err(Refusal::new(400, "a body is required, as JSON")),
        (true, _) => {
            let content_type = head.fields.get(Known::ContentType).unwrap_or_default();
            match is_json(content_type) {
                true => Ok(true),
                false => Err(media_type("application/json".to_owned())),
            }
        }
    }
}

fn media_type(instead: String) -> Refusal {
    Refusal::new(415, format!("the body's media type is to be {instead}")).instead(instead)
}

fn refused(misfit: Misfit, head: &RequestHead) -> Refusal {
    match misfit {
        Misfit::NoPath => Refusal::new(404, "the API has no such path"),
        Misfit::NoMethod(methods) => {
            let detail = format!("the API has no method {} for this path", head.method);
            Refusal::new(405, detail).instead(methods.join(", "))
        }
        Misfit::MediaType(types) => media_type(types.join(", ")),
        Misfit::NoBody => Refusal::new(400, "a body is required"),
        Misfit::Unfit(unfit) => unfit_refused(unfit),
    }
}

fn unfit_refused(unfit: Unfit) -> Refusal {
    match unfit {
        Unfit::Flaws(flaws) => {
            let detail = match &flaws[..] {
                [only] => format!("{} is not valid: {}", subject(only), only.detail),
                _ => "the request is not valid; see errors".to_owned(),
            };
            Refusal { flaws, ..Refusal::new(422, detail) }
        }
        Unfit::TooCostly => Refusal::new(413, "the body takes too much work to judge"),
    }
}

fn subject(flaw: &Flaw) -> String {
    match &flaw.parameter {
        Some((place, name)) => format!("the {} parameter {name}", place.name()),
        None if flaw.pointer == "#" => "the body".to_owned(),
        None => flaw.pointer.clone(),
    }
}

impl BodyCheck {
    /// Holds the whole body against its schema. That may take milliseconds, in proportion to its size.
    ///
    /// # Errors
    /// [`Refusal`]: the request shall not go on.
    pub fn check(&self, body: &[u8]) -> Result<(), Refusal> {
        let bounds = CheckBounds::default();
        let verdict = match &self.0 {
            Held::Schema(schema) => schema.check(read(body)?.root(), &bounds),
            Held::OpenApi(api, BodyKind::Json(schema)) => {
                api.set().check(*schema, read(body)?.root(), &bounds)
            }
            Held::OpenApi(api, BodyKind::Form(schema)) => {
                let text = form_as_json(api.set(), *schema, body);
                let text = text.ok_or_else(|| Refusal::new(400, "the body is not a form in UTF-8"))?;
                check_text(api.set(), *schema, &text, &bounds)
            }
        };
        verdict.map_err(unfit_refused)
    }
}

fn read(body: &[u8]) -> Result<Json<'_>, Refusal> {
    Json::read(body, &JsonBounds::default()).map_err(|error| match error {
        error @ JsonError::Malformed { .. } => Refusal::new(400, format!("the body is not JSON: {error}")),
        error @ JsonError::TooMuch { .. } => Refusal::new(413, format!("the body cannot be judged: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SchemaError;

    const SHOP: &str = r##"
openapi: 3.1.0
info: {title: Shop, version: "1"}
servers:
  - url: https://shop.example.com/api/{version}
    variables: {version: {default: v1}}
paths:
  /orders:
    get:
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
        - {name: state, in: query, schema: {type: array, items: {enum: [open, paid]}}}
        - {name: ids, in: query, explode: false, schema: {type: array, items: {type: integer}}}
        - {name: filter, in: query, style: deepObject, schema: {type: object, properties: {paid: {type: boolean}}, additionalProperties: false}}
        - {name: X-Tenant, in: header, required: true, schema: {type: string, pattern: "^[a-z]+$"}}
        - {name: session, in: cookie, schema: {type: string, minLength: 4}}
        - {name: where, in: query, content: {application/json: {schema: {type: object}}}}
    post:
      requestBody: {$ref: "#/components/requestBodies/Order"}
  /orders/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: integer}}
    get: {}
    patch:
      requestBody:
        required: true
        content:
          application/merge-patch+json: {schema: {type: object}}
          text/*: {}
  /orders/new:
    get: {}
  /login:
    post:
      requestBody:
        content:
          application/x-www-form-urlencoded:
            schema:
              type: object
              required: [user, age]
              properties: {user: {type: string}, age: {type: integer}, tag: {type: array, items: {type: string}}}
components:
  requestBodies:
    Order:
      required: true
      content:
        application/json: {schema: {$ref: "#/components/schemas/Order"}}
  schemas:
    Order:
      type: object
      required: [id, item]
      additionalProperties: false
      properties:
        id: {type: string, readOnly: true}
        item: {$ref: "#/components/schemas/Item"}
        next: {$ref: "#/components/schemas/Order"}
    Item: {type: object, properties: {count: {type: integer, format: int32}}}
"##;

    fn load(text: &str) -> Result<OpenApi, SchemaError> {
        OpenApi::load("/api.yaml", &mut |path| match path {
            "/api.yaml" => Ok(text.to_owned()),
            _ => Err("no such file".to_owned()),
        })
    }

    fn shop() -> Validator {
        Validator::OpenApi(load(SHOP).expect("a description"))
    }

    fn request(line: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new();
        let (method, target) = line.split_once(' ').expect("method and target");
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        terrace_http::parse_request(text.as_bytes(), &terrace_http::Bounds::default(), &mut head)
            .expect("a request");
        head
    }

    /// What is said of a request without a body.
    fn asked(line: &str, fields: &[(&str, &str)]) -> Result<(), (u16, String)> {
        shop()
            .check_head(&request(line, fields), false)
            .map(|_| ())
            .map_err(|refusal| (refusal.status, refusal.detail))
    }

    /// What is said of a request with a body.
    fn sent(validator: &Validator, line: &str, content_type: &str, body: &[u8]) -> Result<(), Refusal> {
        let head = request(line, &[("Content-Type", content_type)]);
        match validator.check_head(&head, true)? {
            Some(check) => check.check(body),
            None => Ok(()),
        }
    }

    const TENANT: (&str, &str) = ("X-Tenant", "acme");

    #[test]
    fn an_operation_is_found_by_path_and_method_below_its_servers_path() {
        assert_eq!(asked("GET /api/v1/orders", &[TENANT]), Ok(()));
        assert_eq!(asked("GET /api/v1/orders/7", &[]), Ok(()));
        assert_eq!(asked("GET /api/v1/orders/new", &[]), Ok(()), "it says more than /orders/{{id}}");
        assert_eq!(asked("GET /orders", &[TENANT]).expect_err("elsewhere").0, 404);
        assert_eq!(asked("GET /api/v1/orders/", &[TENANT]).expect_err("another path").0, 404);
        let refusal =
            shop().check_head(&request("DELETE /api/v1/orders/7", &[]), false).expect_err("no such method");
        assert_eq!((refusal.status, refusal.instead.as_deref()), (405, Some("GET, PATCH")));
    }

    #[test]
    fn parameters_are_what_their_schemas_make_of_them() {
        let fits = |query: &str| asked(&format!("GET /api/v1/orders?{query}"), &[TENANT]);
        let why = |query: &str| fits(query).expect_err(query);
        assert_eq!(
            fits("limit=7&state=open&state=paid&ids=1,2&filter%5Bpaid%5D=true&where=%7B%7D&else=x"),
            Ok(())
        );
        assert_eq!(
            why("limit=0"),
            (422, "the query parameter limit is not valid: it is to be at least 1".into())
        );
        assert_eq!(
            why("limit=x").1,
            "the query parameter limit is not valid: it is to be of type integer, not string"
        );
        assert_eq!(
            why("limit=1&limit=2").1,
            "the query parameter limit is not valid: it stands there more than once"
        );
        assert!(
            why("limit=").1.contains("of type integer") && why("limit=%207").1.contains("of type integer")
        );
        assert!(why("state=open&state=lost").1.contains(r#""open" or "paid""#));
        assert!(
            why("ids=1,x").1.contains("of type integer") && why("ids=1%2C2").1.contains("of type integer")
        );
        assert!(
            why("filter[paid]=maybe").1.contains("of type boolean")
                && why("filter[a]=1").1.contains("nothing is allowed")
        );
        assert!(
            why("where=%7B").1.contains("it cannot be read") && why("where=1").1.contains("of type object")
        );
        assert_eq!(asked("GET /api/v1/orders/x", &[]).expect_err("no number").0, 422);
        let header = asked("GET /api/v1/orders", &[("X-Tenant", "ACME")]).expect_err("capitals");
        assert_eq!(header.1, "the header parameter X-Tenant is not valid: it does not fit the pattern");
        assert!(
            asked("GET /api/v1/orders", &[]).expect_err("none").1.contains("the header parameter is missing")
        );
        assert_eq!(asked("GET /api/v1/orders", &[TENANT, ("Cookie", "a=1; session=abcd")]), Ok(()));
        assert_eq!(
            asked("GET /api/v1/orders", &[TENANT, ("Cookie", "session=ab")]).expect_err("short").0,
            422
        );
    }

    #[test]
    fn bodies_are_held_against_the_schema_of_their_media_type() {
        let shop = shop();
        let post = |content_type: &str, body: &str| {
            sent(&shop, "POST /api/v1/orders", content_type, body.as_bytes())
        };
        assert_eq!(
            post("application/json", r#"{"item":{"count":2}}"#),
            Ok(()),
            "what is read-only is the service's to say"
        );
        let refusal =
            post("application/json", r#"{"item":{"count":3000000000},"x":1}"#).expect_err("two flaws");
        assert_eq!(
            (refusal.status, refusal.errors_json().as_str()),
            (
                422,
                r##"[{"detail":"it is to be an integer of 32 bits","pointer":"#/item/count","keyword":"format"},{"detail":"nothing is allowed here","pointer":"#/x","keyword":"false"}]"##
            )
        );
        assert_eq!(post("application/json", "{").expect_err("cut").status, 400);
        assert_eq!(post("application/json", r#"{"item":{},"item":1}"#).expect_err("twice").status, 400);
        assert_eq!(post("application/json", &"[".repeat(100)).expect_err("deep").status, 413);
        let refusal = post("text/plain", "x").expect_err("another type");
        assert_eq!((refusal.status, refusal.instead.as_deref()), (415, Some("application/json")));
        let head = request("POST /api/v1/orders", &[]);
        assert_eq!(shop.check_head(&head, false).expect_err("required").status, 400);
        let coded = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
        assert_eq!(
            shop.check_head(&request("POST /api/v1/orders", &coded), true).expect_err("coded").status,
            415
        );
    }

    #[test]
    fn of_other_media_types_nothing_is_read() {
        let shop = shop();
        let patch = |content_type| {
            shop.check_head(&request("PATCH /api/v1/orders/7", &[("Content-Type", content_type)]), true)
        };
        assert!(patch("text/csv").expect("text is taken").is_none());
        assert!(patch("application/merge-patch+json").expect("JSON is taken").is_some());
        assert_eq!(patch("application/json").expect_err("not that").status, 415);
    }

    #[test]
    fn a_form_is_an_object_of_its_fields() {
        let shop = shop();
        let form = "application/x-www-form-urlencoded";
        let login = |body: &str| sent(&shop, "POST /api/v1/login", form, body.as_bytes());
        assert_eq!(login("user=42&age=42&tag=a&unknown=x"), Ok(()));
        let refusal = login("user=a&user=b&age=x").expect_err("twice, and no number");
        assert_eq!(refusal.flaws.len(), 2, "{refusal:?}");
        assert_eq!(login("user=%ff&age=1").expect_err("no text").status, 400);
    }

    #[test]
    fn one_schema_holds_for_every_body() {
        let schema = JsonSchema::load("/s.json", &mut |_| Ok(r#"{"required":["a"]}"#.to_owned()));
        let validator = Validator::Schema(schema.expect("a schema"));
        assert_eq!(sent(&validator, "POST /", "application/json; charset=utf-8", br#"{"a":1}"#), Ok(()));
        assert_eq!(sent(&validator, "PUT /", "application/json", b"{}").expect_err("missing").status, 422);
        assert_eq!(sent(&validator, "PUT /", "text/html", b"{}").expect_err("no JSON").status, 415);
        assert!(validator.check_head(&request("GET /", &[]), false).expect("no body").is_none());
        assert_eq!(
            validator.check_head(&request("POST /", &[]), false).expect_err("a body is due").status,
            400
        );
    }

    #[test]
    fn what_is_wrong_with_a_description_is_told_with_its_place() {
        let why = |text: &str| load(text).expect_err(text).to_string();
        assert_eq!(
            why("openapi: 3.0.3\n"),
            "/api.yaml: line 1, column 10: openapi is to be \"3.1.…\": other versions mean other things"
        );
        assert!(
            why("openapi: 3.1.0\npaths:\n  orders: {}\n")
                .contains("line 3, column 3: the path orders: a path begins with /")
        );
        let parameter =
            "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      parameters:\n        - {name: x, in: body}\n";
        assert!(why(parameter).contains("line 6, column 11: in is one of"), "{}", why(parameter));
        let schema = "openapi: 3.1.0\npaths:\n  /a:\n    post:\n      requestBody: {content: {application/json: {schema: {type: text}}}}\n";
        assert!(why(schema).contains("line 5, column 65: type is one of"), "{}", why(schema));
        let nullable = "openapi: 3.1.0\npaths:\n  /a/{b}:\n    get:\n      parameters: [{name: b, in: path, schema: {type: string, nullable: true}}]\n";
        assert!(why(nullable).contains("nullable is of OpenAPI 3.0"));
        let reference = "openapi: 3.1.0\npaths:\n  /a: {$ref: 'other.yaml#/x'}\n";
        assert!(why(reference).contains("leads nowhere: no such file"));
        let style = "openapi: 3.1.0\npaths:\n  /a/{b}:\n    get:\n      parameters: [{name: b, in: path, style: matrix, schema: {}}]\n";
        assert!(why(style).contains("the style matrix is not understood"));
        let absent =
            "openapi: 3.1.0\npaths:\n  /a:\n    get:\n      parameters: [{name: b, in: path, schema: {}}]\n";
        assert!(why(absent).contains("the path has no {b}"));
    }
}
