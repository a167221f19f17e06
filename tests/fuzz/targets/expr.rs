//! An expression of a report rule, whatever its text: never a panic, an error points into the text, and a
//! result is a finite number, a truth or nothing.
#![no_main]

use adapter_api::Value;
use libfuzzer_sys::fuzz_target;
use tidegate::shape::expr::Expr;

fuzz_target!(|text: &str| {
    match Expr::parse(text) {
        Err(error) => assert!(error.column <= text.chars().count() + 1, "{error}"),
        Ok(expr) => {
            let count = expr.inputs().len();
            for x in [0.0, 1.0, -2.5, f64::MAX, f64::MIN_POSITIVE, f64::NAN] {
                let value = expr.value(&vec![x; count]);
                assert!(matches!(value, Value::None | Value::Bool(_) | Value::Float(_)), "{value:?}");
            }
        }
    }
});
