//! Active/active, TPGS 0: every port serves every LUN at any time.

use super::{Persona, View};

pub struct Plain;

impl Persona for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn identity(&self, _view: &View) -> (&'static str, &'static str, &'static str) {
        ("COREPATH", "PLAIN", "0001")
    }
}
