//! Products by tables of sixteen: what families with a byte shuffle and no multiply use.

use crate::gf;

/// Products of one coefficient with the sixteen low and the sixteen high nibbles: a byte is the sum of its two.
#[derive(Clone, Copy, Debug)]
pub(super) struct NibbleProducts {
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
}

const fn nibble_products(coefficient: u8) -> NibbleProducts {
    let mut products = NibbleProducts { low: [0; 16], high: [0; 16] };
    let mut nibble = 0;
    while nibble < 16 {
        products.low[nibble] = gf::mul_by_definition(coefficient, nibble.to_le_bytes()[0]);
        products.high[nibble] = gf::mul_by_definition(coefficient, nibble.to_le_bytes()[0] << 4);
        nibble += 1;
    }
    products
}

/// The tables of all constants, 8 KiB: a plan is made of hundreds of them.
pub(super) static NIBBLE_PRODUCTS: [NibbleProducts; 256] = {
    let mut tables = [nibble_products(0); 256];
    let mut coefficient = 0;
    while coefficient < 256 {
        tables[coefficient] = nibble_products(coefficient.to_le_bytes()[0]);
        coefficient += 1;
    }
    tables
};
