//! Heads for the tests of the strict parser.

mod check;
mod hop;

use http::Request;
use http::Version;
use http::request::Parts;

use super::HeadLimits;

const LIMITS: HeadLimits = HeadLimits {
    headers: 100,
    uri: 8192,
};

fn head(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().version(version).method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a head that the types accept");
    request.into_parts().0
}

fn h1(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    head(Version::HTTP_11, method, uri, fields)
}

fn h2(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
    head(Version::HTTP_2, method, uri, fields)
}
