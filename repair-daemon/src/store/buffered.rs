//! Stages for stores that take a file whole: gathered in memory, handed over when they are published.

use super::contract::{Published, Staged};
use super::invalid;
use repair_core::node::StoreError;
use repair_core::wire::node::FragmentKey;
use std::fmt;

/// A stage in memory. For stores with [`durable_names`](super::Capabilities::durable_names) that can give a name to bytes in one durable step, if
/// nothing has it. It takes as much memory as the file is long, for as long as it is staged.
pub struct BufferedStage<P> {
    bytes: Vec<u8>,
    state: State,
    publish: P,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Sealed,
    Named,
}

impl<P> fmt::Debug for BufferedStage<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BufferedStage({} bytes, {:?})", self.bytes.len(), self.state)
    }
}

impl<P: FnMut(FragmentKey, &[u8]) -> Result<Published, StoreError> + Send + 'static> BufferedStage<P> {
    /// A stage with room for `bytes`. `publish` makes name and bytes durable as one, or says that the name is taken and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] where there is not so much memory.
    pub fn begin(bytes: u64, publish: P) -> Result<Box<dyn Staged>, StoreError> {
        let mut room = Vec::new();
        let reserved = usize::try_from(bytes).is_ok_and(|bytes| room.try_reserve_exact(bytes).is_ok());
        if !reserved {
            return Err(StoreError::NoSpace(format!("no memory for a stage of {bytes} bytes")));
        }
        room.resize(room.capacity().min(bytes as usize), 0);
        Ok(Box::new(Self { bytes: room, state: State::Open, publish }))
    }
}

impl<P: FnMut(FragmentKey, &[u8]) -> Result<Published, StoreError> + Send> Staged for BufferedStage<P> {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let room = usize::try_from(offset).ok().and_then(|start| self.bytes.get_mut(start..)?.get_mut(..bytes.len()));
        match room {
            Some(room) if self.state == State::Open => {
                room.copy_from_slice(bytes);
                Ok(())
            }
            _ => Err(invalid("a piece outside the room reserved, or behind the seal")),
        }
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        let piece = usize::try_from(offset).ok().and_then(|start| self.bytes.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(piece.ok_or_else(|| invalid("a piece outside the room reserved"))?);
        Ok(())
    }

    fn seal(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.state != State::Open || bytes > self.bytes.len() as u64 {
            return Err(invalid("the stage is sealed, or has less room"));
        }
        // Not longer than what is in memory: it fits.
        self.bytes.truncate(bytes as usize);
        self.state = State::Sealed;
        Ok(())
    }

    fn publish(&mut self, fragment: FragmentKey) -> Result<Published, StoreError> {
        if self.state != State::Sealed {
            return Err(invalid("the stage is not sealed, or has a name"));
        }
        let published = (self.publish)(fragment, &self.bytes)?;
        if published == Published::New {
            self.state = State::Named;
            self.bytes = Vec::new();
        }
        Ok(published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use repair_core::id::ExtentKey;

    #[test]
    fn a_stage_is_handed_over_whole_and_once() {
        let name = |extent| FragmentKey { extent: ExtentKey(extent), generation: 1, index: 0 };
        let mut taken = Vec::new();
        let publish = move |fragment: FragmentKey, bytes: &[u8]| {
            assert_eq!(bytes, [0, 7, 7, 0]);
            if fragment.extent.0 == 1 {
                return Ok(Published::NameTaken);
            }
            assert!(taken.is_empty());
            taken.push(fragment);
            Ok(Published::New)
        };
        let mut stage = BufferedStage::begin(6, publish).unwrap();
        for (offset, bytes) in [(5, 2), (7, 0), (u64::MAX, 1), (0, 7)] {
            assert!(stage.write_at(offset, &vec![1; bytes]).is_err(), "{offset} {bytes}");
        }
        stage.write_at(1, &[7, 7]).unwrap();
        assert!(stage.publish(name(2)).is_err() && stage.seal(7).is_err());
        stage.seal(4).unwrap();
        assert!(stage.seal(4).is_err() && stage.write_at(0, &[1]).is_err());
        assert_eq!(stage.publish(name(1)), Ok(Published::NameTaken));
        assert_eq!(stage.publish(name(2)), Ok(Published::New));
        assert!(matches!(stage.publish(name(3)), Err(StoreError::Invalid(_))));
        let huge = BufferedStage::begin(u64::MAX, |_: FragmentKey, _: &[u8]| Ok(Published::New));
        assert!(matches!(huge, Err(StoreError::NoSpace(_))));
    }
}
