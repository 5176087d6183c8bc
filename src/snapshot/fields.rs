//! What can be asked about a lock.

/// Something that a monitor can be asked about every lock.
///
/// # Examples
/// ```
/// use tierlock::{LockMonitor, monitor::Field};
/// let names_only = LockMonitor::new().query([Field::Name]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Field {
    /// What it is called; rows have it anyway, since they are sorted by it.
    Name,
    /// How it is held; whether it was deleted or abandoned.
    Mode,
    /// Who holds it.
    Owner,
    /// Who waits for it.
    Pending,
}

impl Field {
    /// Every field, in the order of a table's columns.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::monitor::Field::ALL.len(), 4);
    /// ```
    pub const ALL: [Self; 4] = [Self::Name, Self::Mode, Self::Owner, Self::Pending];
}

/// Some of the fields, each once.
///
/// # Examples
/// ```
/// use tierlock::monitor::{Field, Fields};
///
/// let fields = Fields::from([Field::Owner, Field::Name, Field::Name]);
/// assert!(fields.contains(Field::Owner) && !fields.contains(Field::Pending));
/// assert_eq!(fields.iter().collect::<Vec<_>>(), [Field::Name, Field::Owner]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u8);

impl Fields {
    /// Every field.
    ///
    /// # Examples
    /// ```
    /// use tierlock::monitor::Fields;
    /// assert_eq!(Fields::ALL.iter().count(), 4);
    /// ```
    pub const ALL: Self = Self(0b1111);

    /// Tells whether `field` is one of them.
    ///
    /// # Examples
    /// ```
    /// use tierlock::monitor::{Field, Fields};
    /// assert!(Fields::ALL.contains(Field::Mode));
    /// ```
    #[must_use]
    pub fn contains(self, field: Field) -> bool {
        self.0 & (1 << field as u8) != 0
    }

    /// Each of them, in the order of a table's columns.
    ///
    /// # Examples
    /// ```
    /// use tierlock::monitor::{Field, Fields};
    /// assert!(Fields::ALL.iter().eq(Field::ALL));
    /// ```
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |field| self.contains(*field))
    }
}

impl FromIterator<Field> for Fields {
    fn from_iter<I: IntoIterator<Item = Field>>(fields: I) -> Self {
        Self(fields.into_iter().fold(0, |bits, field| bits | 1 << field as u8))
    }
}

impl<const COUNT: usize> From<[Field; COUNT]> for Fields {
    fn from(fields: [Field; COUNT]) -> Self {
        fields.into_iter().collect()
    }
}

impl From<&[Field]> for Fields {
    fn from(fields: &[Field]) -> Self {
        fields.iter().copied().collect()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Fields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}
