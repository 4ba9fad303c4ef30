//! GF(2^8) with polynomial x^8+x^4+x^3+x^2+1 (0x11D) and generator 2: the field of every code here.
//!
//! [`mul_by_definition`] is the definition; the tables are made from it at compile time, and every kernel answers to it.

/// The field's polynomial without its top term.
pub const POLYNOMIAL_LOW: u8 = 0x1D;

/// Schoolbook product: no tables. Every faster path answers to this one.
pub const fn mul_by_definition(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        // Multiply by x and reduce when the top bit falls out.
        a = (a << 1) ^ (if a & 0x80 != 0 { POLYNOMIAL_LOW } else { 0 });
        b >>= 1;
    }
    product
}

struct LogTables {
    exp: [u8; 512],
    log: [u8; 256],
}

const fn log_tables() -> LogTables {
    let mut tables = LogTables { exp: [0; 512], log: [0; 256] };
    let mut power = 0usize;
    let mut value = 1u8;
    while power < 255 {
        tables.exp[power] = value;
        tables.exp[power + 255] = value;
        tables.log[value as usize] = power as u8;
        value = mul_by_definition(value, 2);
        power += 1;
    }
    // 2 generates the whole multiplicative group, or the tables would have holes.
    assert!(value == 1);
    tables
}

static TABLES: LogTables = log_tables();

/// Rows of all products: row `a` is what each element becomes when multiplied by `a`. 64 KiB, for work on whole rows of
/// coefficients, where a row of it stays in cache.
static PRODUCTS: [[u8; 256]; 256] = {
    let mut products = [[0; 256]; 256];
    let mut a = 1;
    while a < 256 {
        let mut b = 1;
        while b < 256 {
            products[a][b] = TABLES.exp[TABLES.log[a] as usize + TABLES.log[b] as usize];
            b += 1;
        }
        a += 1;
    }
    products
};

/// `target += factor * source`, element by element; as many elements as the shorter one has.
pub fn add_scaled(target: &mut [u8], source: &[u8], factor: u8) {
    match factor {
        0 => {}
        1 => target.iter_mut().zip(source).for_each(|(target, source)| *target ^= source),
        _ => {
            let products = &PRODUCTS[usize::from(factor)];
            target.iter_mut().zip(source).for_each(|(target, &source)| *target ^= products[usize::from(source)]);
        }
    }
}

/// Multiplies every element.
pub fn scale(elements: &mut [u8], factor: u8) {
    let products = &PRODUCTS[usize::from(factor)];
    elements.iter_mut().for_each(|element| *element = products[usize::from(*element)]);
}

/// Product of two elements.
pub fn mul(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    TABLES.exp[TABLES.log[a as usize] as usize + TABLES.log[b as usize] as usize]
}

/// `1 / a`; `None` for 0, which has no inverse.
pub fn inverse(a: u8) -> Option<u8> {
    if a == 0 {
        return None;
    }
    Some(TABLES.exp[255 - TABLES.log[a as usize] as usize])
}

/// `2^exponent`, the exponent taken modulo 255.
pub fn exp2(exponent: usize) -> u8 {
    TABLES.exp[exponent % 255]
}

/// `base^exponent` with `0^0 = 1`.
pub fn pow(base: u8, exponent: usize) -> u8 {
    match (base, exponent) {
        (_, 0) => 1,
        (0, _) => 0,
        _ => exp2(TABLES.log[base as usize] as usize * exponent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_0x11d_with_generator_2() {
        assert_eq!(mul_by_definition(0x80, 2), 0x1D);
        let mut seen = [false; 256];
        for power in 0..255 {
            assert!(!std::mem::replace(&mut seen[exp2(power) as usize], true), "2^{power} repeats");
        }
        assert!(!seen[0]);
    }

    #[test]
    fn tables_agree_with_the_definition_on_all_products() {
        for a in 0..=u8::MAX {
            for b in 0..=u8::MAX {
                assert_eq!(mul(a, b), mul_by_definition(a, b), "{a:#04x} * {b:#04x}");
                let mut sum = [b ^ 0x5A];
                add_scaled(&mut sum, &[b], a);
                assert_eq!(sum[0], b ^ 0x5A ^ mul(a, b), "{a:#04x} * {b:#04x}");
                let mut scaled = [b];
                scale(&mut scaled, a);
                assert_eq!(scaled[0], mul(a, b), "{a:#04x} * {b:#04x}");
            }
            if let Some(inverse) = inverse(a) {
                assert_eq!(mul_by_definition(a, inverse), 1);
            } else {
                assert_eq!(a, 0);
            }
        }
    }

    #[test]
    fn powers_agree_with_repeated_products() {
        for base in 0..=u8::MAX {
            let mut product = 1;
            for exponent in 0..300 {
                assert_eq!(pow(base, exponent), product, "{base}^{exponent}");
                product = mul_by_definition(product, base);
            }
        }
    }
}
