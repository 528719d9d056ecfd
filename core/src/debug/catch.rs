//! Catchpoints on VMX events, and exits that the debugger asks for.

/// Which of a kind of event are caught.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    #[default]
    Any,
    /// Basic exit reasons (exits and failed entries) or VM-instruction errors (VMfail).
    Numbers(Vec<u32>),
}

impl Filter {
    /// The numbers that are caught; `None`: all.
    pub fn numbers(&self) -> Option<Vec<u32>> {
        match self {
            Filter::Any => None,
            Filter::Numbers(list) => Some(list.clone()),
        }
    }

    fn covers(&self, number: u32) -> bool {
        match self {
            Filter::Any => true,
            Filter::Numbers(list) => list.contains(&number),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catch {
    Entry,
    Exit(Filter),
    /// A failed entry or a VMfail.
    Fail(Filter),
    /// A VMCS field is written, by VMWRITE: its encoding.
    Field(u32),
}

/// An exit to be made at the guest's next instruction boundary, or a VMfail for the next VMX instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forced {
    /// Basic exit reason; `None`: a VMfail.
    pub reason: Option<u32>,
    /// VM-instruction error number of a VMfail.
    pub error: u32,
    pub qualification: Option<u64>,
    pub guest_linear: Option<u64>,
    pub guest_physical: Option<u64>,
    pub interruption_info: Option<u32>,
    pub interruption_error_code: Option<u32>,
    pub instruction_length: Option<u32>,
    pub instruction_info: Option<u32>,
}

#[derive(Clone, Default)]
pub struct Catches {
    list: Vec<(u32, Catch)>,
    next: u32,
    /// The catchpoint that stopped the machine, until asked for.
    hit: Option<u32>,
    pub forced: Option<Forced>,
}

impl Catches {
    /// Adds a catchpoint and gives its number, counting from 1.
    pub fn add(&mut self, catch: Catch) -> u32 {
        self.next += 1;
        self.list.push((self.next, catch));
        self.next
    }

    /// False if there is none of that number.
    pub fn delete(&mut self, number: u32) -> bool {
        let before = self.list.len();
        self.list.retain(|(it, _)| *it != number);
        self.list.len() != before
    }

    pub fn list(&self) -> &[(u32, Catch)] {
        &self.list
    }

    fn note(&mut self, wanted: impl Fn(&Catch) -> bool) {
        if let Some((number, _)) = self.list.iter().find(|(_, catch)| wanted(catch)) {
            self.hit.get_or_insert(*number);
        }
    }

    /// Whether writes to VMCS fields are of interest.
    #[inline]
    pub fn watches_fields(&self) -> bool {
        self.list
            .iter()
            .any(|(_, catch)| matches!(catch, Catch::Field(_)))
    }

    pub fn on_entry(&mut self) {
        self.note(|catch| *catch == Catch::Entry);
    }

    pub fn on_exit(&mut self, reason: u32) {
        self.note(|catch| matches!(catch, Catch::Exit(filter) if filter.covers(reason)));
    }

    pub fn on_fail(&mut self, number: u32) {
        self.note(|catch| matches!(catch, Catch::Fail(filter) if filter.covers(number)));
    }

    pub fn on_field_write(&mut self, encoding: u32) {
        self.note(|catch| *catch == Catch::Field(encoding));
    }

    #[inline]
    pub fn were_hit(&self) -> bool {
        self.hit.is_some()
    }

    pub fn take_hit(&mut self) -> Option<u32> {
        self.hit.take()
    }
}
