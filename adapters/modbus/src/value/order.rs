//! In which order the bytes of a value arrive. Sans-IO.

/// The order of a value's bytes, named as of four: `A` is the most significant.
///
/// Two questions make it: which register comes first, and which byte inside a register. Values of one
/// register know the second only (`AB`, `BA`); of eight bytes the four orders are `ABCDEFGH`,
/// `GHEFCDAB`, `BADCFEHG` and `HGFEDCBA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Order {
    /// Big-endian, as the standard has it.
    #[default]
    Abcd,
    /// The registers are swapped.
    Cdab,
    /// The bytes inside each register are swapped.
    Badc,
    /// Little-endian.
    Dcba,
}

impl Order {
    /// All orders and their names in the configuration.
    pub(crate) const NAMES: [(&'static str, Self); 4] =
        [("ABCD", Self::Abcd), ("CDAB", Self::Cdab), ("BADC", Self::Badc), ("DCBA", Self::Dcba)];
    /// The same by the names that values of one and of four registers have.
    const OTHER_NAMES: [(&'static str, Self); 6] = [
        ("AB", Self::Abcd),
        ("BA", Self::Badc),
        ("ABCDEFGH", Self::Abcd),
        ("GHEFCDAB", Self::Cdab),
        ("BADCFEHG", Self::Badc),
        ("HGFEDCBA", Self::Dcba),
    ];

    /// By its name.
    pub(crate) fn named(text: &str) -> Option<Self> {
        let mut names = Self::NAMES.iter().chain(&Self::OTHER_NAMES);
        names.find(|(name, _)| *name == text).map(|(_, order)| *order)
    }

    /// The bytes of registers as they were received, most significant first.
    pub(crate) fn bytes(self, words: &[u16]) -> Vec<u8> {
        let in_word = |word: &u16| match self {
            Self::Abcd | Self::Cdab => word.to_be_bytes(),
            Self::Badc | Self::Dcba => word.to_le_bytes(),
        };
        match self {
            Self::Abcd | Self::Badc => words.iter().flat_map(in_word).collect(),
            Self::Cdab | Self::Dcba => words.iter().rev().flat_map(in_word).collect(),
        }
    }
}
