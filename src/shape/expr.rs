//! Expressions over the resources of one endpoint, such as `voltage * current`. Sans-IO.
//!
//! ```text
//! c ? a : b    ||    &&    < <= > >= == !=    + -    * / %    -x !x    ( )
//! abs(x)  min(a, b, ...)  max(a, b, ...)  round(x)  round(x, digits)
//! ```
//! Loosest first; comparisons are not chained. A resource is a name of letters, digits, `_` and `.`, or
//! anything between quotes. Everything is computed in 64-bit floats; a condition holds if it is not 0, and
//! a truth counts as 1 or 0. What has no finite result, such as a division by zero, has no value, and nothing
//! that is computed from it has; both branches of a choice are computed, and only the chosen one counts.
//!
//! It is compiled to a flat program, so neither running nor dropping it recurses, whatever its text.
//!
//! Not here: what becomes of the qualities of its inputs (`report::book`).

mod parse;

use adapter_api::{Resource, Value};

/// Longest text, in bytes.
pub const MAX_BYTES: usize = 1024;
/// Parentheses, signs and choices nest at most so deep.
pub const MAX_DEPTH: usize = 32;

/// An expression that can be computed.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    program: Vec<Op>,
    inputs: Vec<Input>,
    truth: bool,
}

/// A resource an expression needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Which one.
    pub resource: Resource,
    /// Where it is first named, in characters from 1.
    pub column: usize,
}

/// Why a text is no expression. Never quotes it: it stands in a file that holds secrets (I11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an expression: at column {column}: {why}")]
pub struct ExprError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there, in words for people.
    pub why: String,
}

/// A step of a program: it takes its operands from the stack and leaves its result there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Number(f64),
    /// By its place among the inputs.
    Input(usize),
    Negate,
    Not,
    Abs,
    Binary(Binary),
    /// Condition, then, else.
    Choose,
}

/// What takes two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Or,
    And,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
    Unequal,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Min,
    Max,
    /// To so many digits behind the point.
    Round,
}

impl Expr {
    /// Reads an expression.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        parse::parse(text)
    }

    /// The resources it needs, each once, in the order in which they are named. At least one.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Computes it from the values of its inputs, in their order. [`Value::None`] where that is no finite
    /// number.
    pub fn value(&self, inputs: &[f64]) -> Value {
        match self.compute(inputs) {
            result if result.is_finite() && self.truth => Value::Bool(result != 0.0),
            result => Value::from(result),
        }
    }

    /// NaN stands for what has no value.
    fn compute(&self, inputs: &[f64]) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(8);
        for op in &self.program {
            // The parser leaves as many operands as each step takes.
            let mut pop = || stack.pop().unwrap_or(f64::NAN);
            let result = match *op {
                Op::Number(number) => number,
                Op::Input(n) => inputs.get(n).copied().unwrap_or(f64::NAN),
                Op::Negate => -pop(),
                Op::Not => truth(pop(), |x| x == 0.0),
                Op::Abs => pop().abs(),
                Op::Binary(binary) => {
                    let (b, a) = (pop(), pop());
                    binary.apply(a, b)
                }
                Op::Choose => {
                    let (otherwise, then, condition) = (pop(), pop(), pop());
                    if condition.is_nan() {
                        f64::NAN
                    } else if condition != 0.0 {
                        then
                    } else {
                        otherwise
                    }
                }
            };
            stack.push(if result.is_finite() { result } else { f64::NAN });
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

impl Binary {
    fn apply(self, a: f64, b: f64) -> f64 {
        if a.is_nan() || b.is_nan() {
            return f64::NAN;
        }
        let truth = |holds: bool| f64::from(u8::from(holds));
        match self {
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Less => truth(a < b),
            Self::AtMost => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::AtLeast => truth(a >= b),
            Self::Equal => truth(a == b),
            Self::Unequal => truth(a != b),
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Remainder => a % b,
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::Round => round(a, b),
        }
    }
}

fn truth(x: f64, holds: impl Fn(f64) -> bool) -> f64 {
    if x.is_nan() { x } else { f64::from(u8::from(holds(x))) }
}

fn round(x: f64, digits: f64) -> f64 {
    let factor = 10_f64.powf(digits.trunc().clamp(-15.0, 15.0));
    let rounded = (x * factor).round() / factor;
    // Too large to have digits behind the point.
    if rounded.is_finite() { rounded } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of the inputs `a` = 6, `b` = 4, `z` = 0 and anything else = 1.
    fn value(text: &str) -> Result<Value, ExprError> {
        let expr = Expr::parse(text)?;
        let input = |input: &Input| match input.resource.as_str() {
            "a" => 6.0,
            "b" => 4.0,
            "z" => 0.0,
            _ => 1.0,
        };
        Ok(expr.value(&expr.inputs().iter().map(input).collect::<Vec<_>>()))
    }

    #[test]
    fn expressions_have_their_values() {
        for (text, expected) in [
            ("a * b", Value::from(24.0)),
            ("a+b*2", Value::from(14.0)),
            ("(a+b)*2", Value::from(20.0)),
            ("a - b - 1", Value::from(1.0)),
            ("a / b / 2", Value::from(0.75)),
            ("a % b", Value::from(2.0)),
            ("-a % b", Value::from(-2.0)),
            ("--a", Value::from(6.0)),
            ("- -a + 1e3 + .5 + 2.", Value::from(1008.5)),
            ("a > b", Value::from(true)),
            ("a > b ? 10 : 20", Value::from(10.0)),
            ("a < b ? 1 : a == 6 ? 2 : 3", Value::from(2.0)),
            ("a < b ? z : b > z", Value::from(1.0)),
            ("a < b ? z == 1 : b > z", Value::from(true)),
            ("!a", Value::from(false)),
            ("!z && a >= 6 && b <= 4 && a != b", Value::from(true)),
            ("z || a == b", Value::from(false)),
            ("(a > b) + (a > z)", Value::from(2.0)),
            ("min(a, b, 5)", Value::from(4.0)),
            ("max(a, b, 5)", Value::from(6.0)),
            ("min(a)", Value::from(6.0)),
            ("abs(b - a)", Value::from(2.0)),
            ("round(a / 4)", Value::from(2.0)),
            ("round(a / 7, 3)", Value::from(0.857)),
            ("round(a * 1234.5, -3)", Value::from(7000.0)),
            ("round(a * 1e300, 15)", Value::from(6e300)),
            ("'Spannung L1' + \"min\" + sub.unit", Value::from(3.0)),
            ("grün + Ü", Value::from(2.0)),
            // What is not chosen does not count, what is computed from nothing is nothing.
            ("z == 0 ? a : b / z", Value::from(6.0)),
            ("a / z", Value::None),
            ("a % z", Value::None),
            ("a / z > 1", Value::None),
            ("!(a / z)", Value::None),
            ("a / z ? 1 : 2", Value::None),
            ("min(a / z, 1)", Value::None),
            ("a * 1e308 * 1e308 > 1", Value::None),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_where_it_goes_wrong() {
        for (text, column, why) in [
            ("", 1, "a number, a resource or `(` is expected here"),
            ("a *", 4, "a number, a resource or `(` is expected here"),
            ("a b", 3, "an operator is expected here"),
            ("ä # b", 3, "this character has no meaning here; names with such characters are quoted"),
            ("(a + b", 7, "the `)` for the `(` at column 1 is missing"),
            ("a)", 2, "there is no `(` for this"),
            ("a = b", 3, "`==` compares"),
            ("a < b < 3", 7, "comparisons are not chained; join them with `&&`"),
            ("a ? b", 6, "the `:` for the `?` at column 3 is missing"),
            ("'a", 1, "the quote is not closed"),
            ("''", 1, "a resource's name has 1 to 128 bytes and no control characters"),
            ("1.2.3 * a", 1, "not a number"),
            ("1e999 * a", 1, "not a number"),
            ("1e * a", 1, "not a number"),
            ("sqrt(a)", 1, "there is no such function; known are abs, max, min and round"),
            ("abs(a, b)", 1, "abs takes one value"),
            ("round(a, 1, 2)", 1, "round takes a value, and how many digits it is to have"),
            ("min()", 5, "a number, a resource or `(` is expected here"),
            ("1 + 2", 1, "it names no resource, so it would never be computed"),
        ] {
            let error = value(text).unwrap_err();
            assert_eq!((error.column, error.why.as_str()), (column, why), "{text}");
        }
    }

    #[test]
    fn depth_and_length_are_limited() {
        let nested = |open: &str, close: &str, n: usize| open.repeat(n) + "a" + &close.repeat(n);
        for (open, close) in
            [("(", ")"), ("-", ""), ("!", ""), ("abs(", ")"), ("a ? ", " : a"), ("a ? a : ", "")]
        {
            assert!(value(&nested(open, close, MAX_DEPTH - 2)).is_ok(), "{open}");
            let error = value(&nested(open, close, MAX_DEPTH + 1)).unwrap_err();
            assert_eq!(error.why, "nested too deeply: 32 levels are the most", "{open}");
        }
        assert!(value(&("a".to_owned() + &"+a".repeat(511))).is_ok());
        let error = value(&"a+".repeat(513)).unwrap_err();
        assert_eq!((error.column, error.why.as_str()), (1, "longer than 1024 bytes"));
    }

    proptest! {
        /// No text makes it panic, and what it computes is a number or nothing.
        #[test]
        fn any_text_is_an_expression_or_is_refused(
            text in r#"([ab0-9.e+*/%()?:<>=!&|,'" -]|min|max|abs|round|ü){0,40}"#,
            inputs in prop::collection::vec(any::<f64>(), 0..6),
        ) {
            match Expr::parse(&text) {
                Err(error) => prop_assert!(error.column <= text.chars().count() + 1),
                Ok(expr) => {
                    prop_assert!(!expr.inputs().is_empty());
                    prop_assert!(matches!(expr.value(&inputs), Value::None | Value::Bool(_) | Value::Float(_)));
                }
            }
        }
    }
}
