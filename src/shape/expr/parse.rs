//! From a text to a program, by recursive descent of limited depth.

use super::{Binary, Expr, ExprError, Input, MAX_BYTES, MAX_DEPTH, Op};
use adapter_api::Resource;

/// Operators of two operands, loosest first.
const LEVELS: [&[(&str, Binary)]; 5] = [
    &[("||", Binary::Or)],
    &[("&&", Binary::And)],
    &[
        ("<=", Binary::AtMost),
        (">=", Binary::AtLeast),
        ("==", Binary::Equal),
        ("!=", Binary::Unequal),
        ("<", Binary::Less),
        (">", Binary::Greater),
    ],
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("*", Binary::Multiply), ("/", Binary::Divide), ("%", Binary::Remainder)],
];
/// The level of comparisons, and the last whose results are truths.
const COMPARISONS: usize = 2;
/// Longest first, so that `<=` is not taken for `<`.
const SYMBOLS: [&str; 20] = [
    "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "!", "(", ")", ",", "?", ":", "=",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'t> {
    Number(f64),
    Name(&'t str),
    Quoted(&'t str),
    Symbol(&'static str),
    End,
}

struct Parser<'t> {
    text: &'t str,
    /// What comes next, and where it begins and ends, in bytes.
    next: Token<'t>,
    begin: usize,
    end: usize,
    depth: usize,
    program: Vec<Op>,
    inputs: Vec<Input>,
}

/// Whether a part of an expression is a truth, and not a number.
type Truth = bool;

pub(super) fn parse(text: &str) -> Result<Expr, ExprError> {
    if text.len() > MAX_BYTES {
        return Err(ExprError { column: 1, why: format!("longer than {MAX_BYTES} bytes") });
    }
    let mut parser = Parser {
        text,
        next: Token::End,
        begin: 0,
        end: 0,
        depth: 0,
        program: Vec::new(),
        inputs: Vec::new(),
    };
    parser.advance()?;
    let truth = parser.choice()?;
    match parser.next {
        Token::End => {}
        Token::Symbol(")") => return Err(parser.error("there is no `(` for this")),
        Token::Symbol("=") => return Err(parser.error("`==` compares")),
        _ => return Err(parser.error("an operator is expected here")),
    }
    if parser.inputs.is_empty() {
        return Err(parser.error_at(0, "it names no resource, so it would never be computed"));
    }
    Ok(Expr { program: parser.program, inputs: parser.inputs, truth })
}

impl<'t> Parser<'t> {
    fn error(&self, why: impl Into<String>) -> ExprError {
        self.error_at(self.begin, why)
    }

    fn error_at(&self, byte: usize, why: impl Into<String>) -> ExprError {
        ExprError { column: self.column(byte), why: why.into() }
    }

    fn column(&self, byte: usize) -> usize {
        self.text.get(..byte).map_or(0, |before| before.chars().count()).saturating_add(1)
    }

    fn is(&self, symbol: &'static str) -> bool {
        self.next == Token::Symbol(symbol)
    }

    fn take(&mut self, symbol: &'static str) -> Result<bool, ExprError> {
        let found = self.is(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// One level deeper.
    fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, ExprError>) -> Result<T, ExprError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(format!("nested too deeply: {MAX_DEPTH} levels are the most")));
        }
        self.depth += 1;
        let parsed = part(self);
        self.depth -= 1;
        parsed
    }

    /// `c ? a : b`, or what binds closer.
    fn choice(&mut self) -> Result<Truth, ExprError> {
        self.nested(|parser| {
            let condition = parser.binary(0)?;
            let question = parser.begin;
            if !parser.take("?")? {
                return Ok(condition);
            }
            let then = parser.choice()?;
            if !parser.take(":")? {
                let column = parser.column(question);
                return Err(parser.error(format!("the `:` for the `?` at column {column} is missing")));
            }
            let otherwise = parser.choice()?;
            parser.program.push(Op::Choose);
            Ok(then && otherwise)
        })
    }

    fn binary(&mut self, level: usize) -> Result<Truth, ExprError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut truth = self.binary(level.saturating_add(1))?;
        let mut first = true;
        while let Token::Symbol(symbol) = self.next
            && let Some((_, operator)) = operators.iter().find(|(known, _)| *known == symbol)
        {
            if level == COMPARISONS && !first {
                return Err(self.error("comparisons are not chained; join them with `&&`"));
            }
            self.advance()?;
            self.binary(level.saturating_add(1))?;
            self.program.push(Op::Binary(*operator));
            truth = level <= COMPARISONS;
            first = false;
        }
        Ok(truth)
    }

    fn unary(&mut self) -> Result<Truth, ExprError> {
        let op = match self.next {
            Token::Symbol("-") => Op::Negate,
            Token::Symbol("!") => Op::Not,
            _ => return self.primary(),
        };
        self.nested(|parser| {
            parser.advance()?;
            parser.unary()
        })?;
        self.program.push(op);
        Ok(op == Op::Not)
    }

    fn primary(&mut self) -> Result<Truth, ExprError> {
        let (token, begin) = (self.next, self.begin);
        match token {
            Token::Number(number) => {
                self.advance()?;
                self.program.push(Op::Number(number));
                Ok(false)
            }
            Token::Name(name) => {
                self.advance()?;
                if self.take("(")? { self.call(name, begin) } else { self.input(name, begin) }
            }
            Token::Quoted(name) => {
                self.advance()?;
                self.input(name, begin)
            }
            Token::Symbol("(") => {
                self.advance()?;
                let truth = self.choice()?;
                self.close(begin)?;
                Ok(truth)
            }
            _ => Err(self.error("a number, a resource or `(` is expected here")),
        }
    }

    fn close(&mut self, opened: usize) -> Result<(), ExprError> {
        if self.take(")")? {
            return Ok(());
        }
        let column = self.column(opened);
        Err(self.error(match self.next {
            Token::End => format!("the `)` for the `(` at column {column} is missing"),
            _ => "an operator is expected here".to_owned(),
        }))
    }

    fn input(&mut self, name: &str, begin: usize) -> Result<Truth, ExprError> {
        let known = self.inputs.iter().position(|input| input.resource.as_str() == name);
        let input = match known {
            Some(input) => input,
            None => {
                let resource =
                    Resource::new(name).map_err(|error| self.error_at(begin, error.to_string()))?;
                self.inputs.push(Input { resource, column: self.column(begin) });
                self.inputs.len().saturating_sub(1)
            }
        };
        self.program.push(Op::Input(input));
        Ok(false)
    }

    /// Behind the `(` of a function.
    fn call(&mut self, name: &str, begin: usize) -> Result<Truth, ExprError> {
        let many = match name {
            "min" => Some(Binary::Min),
            "max" => Some(Binary::Max),
            "abs" | "round" => None,
            _ => {
                let why = "there is no such function; known are abs, max, min and round";
                return Err(self.error_at(begin, why));
            }
        };
        let mut count = 1_usize;
        self.choice()?;
        while self.take(",")? {
            self.choice()?;
            count = count.saturating_add(1);
            self.program.extend(many.map(Op::Binary));
        }
        self.close(begin)?;
        match (name, count) {
            ("abs", 1) => self.program.push(Op::Abs),
            ("abs", _) => return Err(self.error_at(begin, "abs takes one value")),
            ("round", 1) => self.program.extend([Op::Number(0.0), Op::Binary(Binary::Round)]),
            ("round", 2) => self.program.push(Op::Binary(Binary::Round)),
            ("round", _) => {
                let why = "round takes a value, and how many digits it is to have";
                return Err(self.error_at(begin, why));
            }
            _ => {}
        }
        Ok(false)
    }

    /// Reads the next token.
    fn advance(&mut self) -> Result<(), ExprError> {
        let behind = self.text.get(self.end..).unwrap_or_default();
        let rest = behind.trim_start();
        self.begin = self.text.len().saturating_sub(rest.len());
        let (token, length) = self.token(rest)?;
        self.next = token;
        self.end = self.begin.saturating_add(length);
        Ok(())
    }

    /// What a text begins with, and its bytes.
    fn token(&self, rest: &'t str) -> Result<(Token<'t>, usize), ExprError> {
        let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
        let while_in = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        if matches!(first, '\'' | '"') {
            let name = rest.get(1..).and_then(|inner| inner.split_once(first)).map(|(name, _)| name);
            let name = name.ok_or_else(|| self.error("the quote is not closed"))?;
            return Ok((Token::Quoted(name), name.len().saturating_add(2)));
        }
        if first.is_ascii_digit() || first == '.' {
            let length = number_length(rest);
            let number = rest.get(..length).and_then(|digits| digits.parse::<f64>().ok());
            let number = number.filter(|n| n.is_finite()).ok_or_else(|| self.error("not a number"))?;
            return Ok((Token::Number(number), length));
        }
        if first.is_alphabetic() || first == '_' {
            let length = while_in(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
            return Ok((Token::Name(rest.get(..length).unwrap_or_default()), length));
        }
        match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Some(symbol) => Ok((Token::Symbol(symbol), symbol.len())),
            None => {
                let why = "this character has no meaning here; names with such characters are quoted";
                Err(self.error(why))
            }
        }
    }
}

/// Digits, points and an exponent, as many as there are: whether they make a number is another question.
fn number_length(text: &str) -> usize {
    let mut before = ' ';
    let belongs = |c: char| {
        let sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        let belongs = sign || c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E');
        before = c;
        belongs
    };
    let mut belongs = belongs;
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}
