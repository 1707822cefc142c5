//! The route table of the admin socket: method and path to what is asked. Pure.

use http::{Method, StatusCode};

use crate::problem::Problem;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Status,
    Connections,
    Accept,
    Activate(String),
    Deactivate(String),
    Rotate(String),
    Remove(String),
    Doctor,
    Explain,
    LogLevel,
    Reload,
    Health,
    Ready,
    Metrics,
}

/// Why nothing is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// There is no such path.
    Path,
    /// The path is there for another method.
    Method {
        /// Which one.
        wanted: Method,
    },
}

impl Route {
    /// The route of a request.
    ///
    /// # Errors
    /// No such path, or not with this method.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, NoRoute> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let (wanted, route) = match *segments.as_slice() {
            ["v1", "status"] => (Method::GET, Self::Status),
            ["v1", "connections"] if method == Method::POST => (Method::POST, Self::Accept),
            ["v1", "connections"] => (Method::GET, Self::Connections),
            ["v1", "connections", name] => (Method::DELETE, Self::Remove(name.to_owned())),
            ["v1", "connections", name, "rotate"] => (Method::POST, Self::Rotate(name.to_owned())),
            ["v1", "connections", name, "activate"] => {
                (Method::POST, Self::Activate(name.to_owned()))
            }
            ["v1", "connections", name, "deactivate"] => {
                (Method::POST, Self::Deactivate(name.to_owned()))
            }
            ["v1", "doctor"] => (Method::GET, Self::Doctor),
            // With a body: that of the call.
            ["v1", "policy", "explain"] if method == Method::POST => (Method::POST, Self::Explain),
            ["v1", "policy", "explain"] => (Method::GET, Self::Explain),
            ["v1", "log-level"] => (Method::PUT, Self::LogLevel),
            ["v1", "reload"] => (Method::POST, Self::Reload),
            ["healthz"] => (Method::GET, Self::Health),
            ["readyz"] => (Method::GET, Self::Ready),
            ["metrics"] => (Method::GET, Self::Metrics),
            _ => return Err(NoRoute::Path),
        };
        if *method == wanted {
            Ok(route)
        } else {
            Err(NoRoute::Method { wanted })
        }
    }
}

impl NoRoute {
    /// The answer.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Path => Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-route",
                "the admin socket has no such path",
            ),
            Self::Method { wanted } => Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong-method",
                "this path wants another method",
            )
            .detail(format!("Use {wanted}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_design_is_there() {
        let route = |method, path| Route::of(&method, path).ok();
        let name = || "acme".to_owned();
        for (method, path, expected) in [
            (Method::GET, "/v1/status", Route::Status),
            (Method::GET, "/v1/connections", Route::Connections),
            (Method::POST, "/v1/connections", Route::Accept),
            (
                Method::POST,
                "/v1/connections/acme/activate",
                Route::Activate(name()),
            ),
            (
                Method::POST,
                "/v1/connections/acme/deactivate",
                Route::Deactivate(name()),
            ),
            (
                Method::POST,
                "/v1/connections/acme/rotate",
                Route::Rotate(name()),
            ),
            (
                Method::DELETE,
                "/v1/connections/acme",
                Route::Remove(name()),
            ),
            (Method::GET, "/v1/doctor", Route::Doctor),
            (Method::GET, "/v1/policy/explain", Route::Explain),
            (Method::POST, "/v1/policy/explain", Route::Explain),
            (Method::PUT, "/v1/log-level", Route::LogLevel),
            (Method::POST, "/v1/reload", Route::Reload),
            (Method::GET, "/healthz", Route::Health),
            (Method::GET, "/readyz", Route::Ready),
            (Method::GET, "/metrics", Route::Metrics),
        ] {
            assert_eq!(route(method, path), Some(expected));
        }
    }

    #[test]
    fn a_wrong_path_and_a_wrong_method_are_told_apart() {
        let status = |method, path| {
            let refused = Route::of(&method, path).unwrap_err();
            refused.problem().status()
        };
        assert_eq!(status(Method::GET, "/v1/nothing"), StatusCode::NOT_FOUND);
        assert_eq!(status(Method::GET, "/v1/status/"), StatusCode::NOT_FOUND);
        assert_eq!(
            status(Method::GET, "/v1/reload"),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            status(Method::DELETE, "/v1/connections"),
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
