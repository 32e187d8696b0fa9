//! A scraped value, exact: the decimal of the scrape text, or the float's bits.
//!
//! Values are kept as the decimal they were written as (`12.5` = 125 x 10^-1), because
//! exact decimals cost half as many bits on flash as floats do (`src/wal/FORMAT.md`).
//! What has no such form (NaN, infinities, -0, long mantissas) is carried as the
//! 64-bit pattern. A NaN is never passed through float arithmetic: the staleness
//! marker is a signalling NaN and hardware would quieten it.

/// Bits of the staleness marker (Prometheus; remote write 1.0 spec, "Stale Markers").
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Bits that every NaN written in an exposition becomes (Prometheus' "normal NaN").
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Index of a series in the catalogue: dense, reused after a series has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u16);

/// Index of a target in the configuration, below [`crate::limits::MAX_TARGETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetRef(pub u8);

/// Exponent value that marks a [`Number`] as a raw bit pattern.
const RAW: i8 = i8::MAX;

/// One value: a decimal `mantissa x 10^exponent`, or the bits of a float.
///
/// 10 bytes without padding, so that a scrape's samples pack into 12 bytes each.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, packed(2))]
pub struct Number {
    word: u64,
    exponent: i8,
}

/// What a [`Number`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `mantissa / 10^-exponent`, exactly the parsed float: |mantissa| < 2^53, exponent in -22..=0,
    /// no trailing zero digit unless the exponent is 0.
    Decimal {
        /// Digits as an integer.
        mantissa: i64,
        /// Power of ten, never positive.
        exponent: i8,
    },
    /// IEEE 754 binary64 pattern.
    Bits(u64),
}

impl Number {
    /// The staleness marker.
    pub const STALE: Self = Self::from_raw_bits(STALE_NAN_BITS);

    /// A decimal; the caller has made sure of the bounds stated at [`Form::Decimal`].
    #[must_use]
    pub const fn decimal(mantissa: i64, exponent: i8) -> Self {
        Self {
            word: mantissa as u64,
            exponent,
        }
    }

    /// A bit pattern, whatever it means.
    #[must_use]
    pub const fn from_raw_bits(bits: u64) -> Self {
        Self {
            word: bits,
            exponent: RAW,
        }
    }

    /// Which of the two forms this is.
    #[must_use]
    pub const fn form(self) -> Form {
        if self.exponent == RAW {
            Form::Bits(self.word)
        } else {
            Form::Decimal {
                mantissa: self.word as i64,
                exponent: self.exponent,
            }
        }
    }

    /// The value as the bits of a binary64.
    ///
    /// Exact for decimals: both operands of the one division are exact (Clinger's fast path).
    #[must_use]
    pub fn to_bits(self) -> u64 {
        match self.form() {
            Form::Bits(bits) => bits,
            Form::Decimal { mantissa, exponent } => {
                let power = POWERS_OF_TEN[usize::from(exponent.unsigned_abs()).min(22)];
                (mantissa as f64 / power).to_bits()
            }
        }
    }

    /// True for the staleness marker.
    #[must_use]
    pub fn is_stale(self) -> bool {
        self.form() == Form::Bits(STALE_NAN_BITS)
    }
}

impl core::fmt::Debug for Number {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.form() {
            Form::Decimal { mantissa, exponent } => write!(f, "{mantissa}e{exponent}"),
            Form::Bits(bits) => write!(f, "bits:{bits:016x}"),
        }
    }
}

/// 10^0 to 10^22: every one is exact in binary64.
pub const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// One sample of a frame: which series, which value. 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// The value.
    pub number: Number,
    /// The series.
    pub series: SeriesRef,
}

/// Type of a metric family, as one byte of the dictionary and as remote write's enumeration.
///
/// The numbers are those of remote write 2.0's `Metadata.MetricType` (and 1.0's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the whole meaning")]
pub enum MetricType {
    #[default]
    Unknown = 0,
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
    GaugeHistogram = 4,
    Summary = 5,
    Info = 6,
    Stateset = 7,
}

impl MetricType {
    /// The type with this number; unknown numbers are [`MetricType::Unknown`].
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::Stateset,
            _ => Self::Unknown,
        }
    }

    /// Its name in OpenMetrics and in Prometheus' API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::Stateset => "stateset",
        }
    }
}
