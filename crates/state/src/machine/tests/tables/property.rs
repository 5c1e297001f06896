//! Random definitions and programs: what the model says, under every schedule, at every height.

use quipu_types::program::{Access, Alter, Unary};
use quipu_types::table::Identity;

use super::model::{Model, Refusal};
use super::*;

/// Bytes that decide what is generated; zeros behind their end. Fewer bytes are a smaller case.
pub(super) struct Tape(std::vec::IntoIter<u8>);

impl Tape {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_iter())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % bound
    }

    pub(super) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    pub(super) fn some<T>(
        &mut self,
        count_max: usize,
        mut make: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        (0..self.below(count_max) + 1).map(|_| make(self)).collect()
    }

    fn constant(&mut self, column: u16) -> Expr {
        let texts = ["", "x", "xy", "xyz", "x  ", "abcd", "a\0", "a\0\u{1}", "é\u{ff}"];
        match (column, self.below(24)) {
            (2, 0) => null(ColumnType::Text),
            (2, _) => text(self.pick(&texts)),
            (_, 0) => null(ColumnType::Int4),
            (_, 1) => self.pick(&[int(i32::MAX), long(i64::MIN), long(1 << 40), text("x")]),
            (_, 2 | 3) => long(i64::try_from(self.below(4)).expect("small")),
            _ => int(self.pick(&[0, 1, 2, 3, 4, 5, 6, 7])),
        }
    }

    fn filter(&mut self) -> Option<Expr> {
        let column = self.pick(&[0, 1, 2]);
        match self.below(6) {
            0..4 => None,
            4 => Some(Expr::Unary(Unary::IsNull, Box::new(Expr::Column(column)))),
            _ => {
                let constant = if column == 2 { text("xy") } else { int(self.pick(&[0, 1, 2, 4])) };
                let op = self.pick(&[Binary::Less, Binary::Greater, Binary::Equal]);
                Some(binary(op, Expr::Column(column), constant))
            }
        }
    }

    fn sets(&mut self, of_insert: bool) -> Vec<(u16, Expr)> {
        let first = self.pick(&[0, 1, 2]);
        let columns = if self.below(3) == 0 { vec![first, (first + 1) % 3] } else { vec![first] };
        let set = |column: u16, tape: &mut Self| match tape.below(5) {
            0 if column != 2 => binary(Binary::Add, Expr::Column(column), int(tape.pick(&[1, -1]))),
            1 => Expr::Column((column + 1) % 3),
            2 if of_insert => Expr::Excluded(column),
            _ => tape.constant(column),
        };
        columns.into_iter().map(|column| (column, set(column, self))).collect()
    }

    fn selection(&mut self, spec: Option<&TableSpec>) -> Selection {
        let keys = spec.map_or(vec![0], |spec| spec.primary_key.clone());
        // A row's number is an integer, as column 0 is.
        let columns = if keys.is_empty() { vec![0] } else { keys };
        let number = |tape: &mut Self| long(i64::try_from(tape.below(6)).expect("small"));
        let key = |column: u16, tape: &mut Self| match column {
            2 => text(tape.pick(&["x", "xy", "", "xyz"])),
            _ => number(tape),
        };
        let access = match self.below(4) {
            0 => Access::All,
            1 | 2 => Access::Keys(
                self.some(3, |tape| columns.iter().map(|column| key(*column, tape)).collect()),
            ),
            _ => {
                let place = self.below(3);
                let indexes = spec.map_or(&[][..], |spec| &spec.indexes);
                let columns = match place.checked_sub(1).map(|place| indexes.get(place)) {
                    None => columns,
                    Some(index) => index.map_or(vec![], |index| index.columns.clone()),
                };
                let count = if columns.is_empty() { 0 } else { self.below(columns.len()) + 1 };
                let values = columns[..count].iter().map(|column| key(*column, self)).collect();
                Access::Index { index: u8::try_from(place).expect("small"), values }
            }
        };
        Selection { access, filter: self.filter() }
    }

    fn op(&mut self, spec: Option<&TableSpec>) -> Op {
        let target = self.pick(&[0, 1, 2]);
        match self.below(33) {
            0..20 => {
                let conflict = match self.below(8) {
                    0..4 => Conflict::Fail,
                    4 => Conflict::Nothing { target: None },
                    5 => Conflict::Nothing { target: Some(target) },
                    _ => {
                        let sets = self.sets(true);
                        Conflict::Update { target, sets, filter: self.filter() }
                    }
                };
                let whole = [vec![0, 1, 2], vec![2, 0, 1], vec![1, 2, 0]];
                let part = [vec![0, 1], vec![1, 2], vec![0, 2], vec![]];
                let columns = if self.below(4) > 0 { self.pick(&whole) } else { self.pick(&part) };
                let row = |tape: &mut Self| columns.iter().map(|c| tape.constant(*c)).collect();
                let rows = self.some(4, row);
                Op::Insert { columns, rows, conflict }
            }
            20..26 => Op::Update { rows: self.selection(spec), sets: self.sets(false) },
            26..31 => Op::Delete { rows: self.selection(spec) },
            31 => Op::Number { count: 3 },
            _ => Op::Truncate,
        }
    }

    /// A table of three columns: two integers and a text.
    fn table(&mut self, other: u32) -> TableSpec {
        let name = self.pick(&["t", "u", "v", "w", "x", "y", "z", "tt", "uu", "vv"]);
        let mut spec = match self.below(8) {
            0 => table_spec(name, "a int4 not null, b int4, c text", &[0]),
            1 => {
                let mut spec = table_spec(name, "a int4, b int4 not null, c text", &[]);
                spec.indexes = vec![index("i", &[1], true)];
                spec
            }
            2 => {
                let mut spec = table_spec(name, "a int8 not null, b int4, c text", &[0]);
                spec.options[0].identity = self.pick(&[Identity::Always, Identity::ByDefault]);
                spec.options[1].default = Some(int(7));
                spec.options[2].length = 3;
                spec
            }
            3 => {
                let mut spec =
                    table_spec(name, "a int4 not null, b int4, c text not null", &[2, 0]);
                spec.checks = vec![above("k", 1, 0)];
                spec
            }
            4 => {
                let mut spec = table_spec(name, "a int4, b int8, c text", &[]);
                spec.indexes = vec![index("i", &[1, 0], false), index("j", &[2], true)];
                (spec.options[2].length, spec.options[2].is_padded) = (3, true);
                spec.checks = vec![above("k", 1, -1)];
                spec
            }
            5 => {
                let mut spec = table_spec(name, "a int4 not null, b int4, c text", &[0]);
                spec.foreign_keys = vec![self.foreign("f", &[1], 0)];
                spec
            }
            kind => {
                let mut spec = table_spec(name, "a int8 not null, b int8, c text", &[0]);
                spec.foreign_keys = vec![self.foreign("f", &[1], other)];
                spec.indexes = if kind == 6 { vec![index("i", &[1], false)] } else { vec![] };
                spec
            }
        };
        spec.writers = if self.below(8) > 0 { Writers::Anyone } else { Writers::Creator };
        spec
    }

    pub(super) fn foreign(&mut self, name: &str, columns: &[u16], table: u32) -> ForeignKey {
        let all = [Reaction::Refuse, Reaction::Cascade, Reaction::SetNull, Reaction::SetDefault];
        let (on_delete, on_update) = (self.pick(&all), self.pick(&all));
        ForeignKey { on_delete, on_update, ..foreign(name, columns, table) }
    }

    fn alter(&mut self, other: u32) -> Alter {
        let name = self.pick(&["i", "j", "k", "f", "g"]);
        let columns = self.pick(&[vec![0], vec![1], vec![2], vec![1, 2], vec![0, 1]]);
        match self.below(9) {
            0 => {
                let name = self.pick(&["d", "e", "b"]);
                let (kind, nullable) = (ColumnType::Int8, self.below(2) == 0);
                let default = self.pick(&[None, Some(int(5)), Some(text("x"))]);
                let options = ColumnOptions { default, ..ColumnOptions::default() };
                Alter::AddColumn(Column { name: name.into(), kind, nullable }, options)
            }
            1 => Alter::AddPrimaryKey { name: name.into(), columns },
            2 | 3 => Alter::AddIndex(index(name, &columns, self.below(2) == 0)),
            4 => Alter::AddCheck(above(name, self.pick(&[0, 1]), self.pick(&[-1, 0, 1]))),
            5 => {
                let table = self.pick(&[0, other, other]);
                Alter::AddForeignKey(self.foreign(name, &columns, table))
            }
            6 => Alter::SetWriters(self.pick(&[Writers::Anyone, Writers::Creator])),
            7 => Alter::Rename(self.pick(&["t", "u", "v", "w"]).into()),
            _ => Alter::DropConstraint(name.into()),
        }
    }

    /// An action on one of the tables that the model has.
    pub(super) fn action(&mut self, model: &Model) -> Action {
        let ids: Vec<u32> = model.tables.keys().copied().collect();
        let mut id = || if ids.is_empty() { 16 } else { ids[self.below(ids.len())] };
        let (id, other) = (id(), id());
        let table = model.tables.get(&id);
        let mut version = table.map_or(Height::new(0), |table| table.def.version);
        if self.below(40) == 39 {
            // One that no change in this tape gives: what was written for another definition fits none.
            version = Height::new(u64::MAX);
        }
        let table_ref = TableRef { id, version };
        let kind = if model.tables.len() < 2 { 0 } else { self.below(24) };
        match kind {
            0 => Action::Define(Box::new(Define::CreateTable(Box::new(self.table(other))))),
            1 if self.below(3) == 0 => Action::Define(Box::new(Define::Drop(table_ref))),
            1 | 2 => Action::Define(Box::new(Define::Alter(table_ref, self.alter(other)))),
            _ => {
                let mut program = program(table_ref, self.op(table.map(|table| table.spec())));
                program.returns = self.below(4) == 0;
                program.row_count = if self.below(12) == 11 { Some(1) } else { None };
                Action::Run(Box::new(program))
            }
        }
    }
}

/// What must become of a transaction.
pub(super) type Wanted = (Result<u64, (Refusal, u32)>, Vec<Vec<u8>>);

/// What the model makes of a transaction; a refused one changes nothing (S2).
pub(super) fn model_run(model: &mut Model, transaction: &Transaction) -> Wanted {
    let signer = quipu_crypto::suite::account(&transaction.signer);
    model.begin();
    let before = model.clone();
    let (mut count, mut returned) = (0, vec![]);
    for (place, action) in (0..).zip(&transaction.actions) {
        let done = match action {
            Action::Run(program) => model.run(signer, program).map(|(changed, rows)| {
                count += changed;
                if let (true, Op::Number { count }) = (program.returns, &program.op) {
                    let first = model.tables[&program.table.id].numbers - u64::from(*count) + 1;
                    returned.push(first.to_le_bytes().to_vec());
                } else if program.returns {
                    let schema = &model.tables[&program.table.id].spec().schema;
                    returned.extend(rows.iter().map(|row| schema.encode_row(row).expect("a row")));
                }
            }),
            Action::Define(define) => model.define(signer, define),
            other => panic!("no {other:?} here"),
        };
        if let Err(refusal) = done {
            *model = before;
            return (Err((refusal, place)), vec![]);
        }
    }
    (Ok(count), returned)
}

pub(super) fn outcome(receipt: &Receipt) -> Result<u64, (Refusal, u32)> {
    match receipt.outcome {
        Outcome::Applied => Ok(receipt.row_count),
        Outcome::Refused { code, action } => {
            Err(((code, receipt.detail), action.expect("an action is to blame")))
        }
    }
}

/// Without what follows a change of its table: the tape writes for the definitions that the block found.
pub(super) fn known(mut actions: Vec<Action>) -> Vec<Action> {
    let mut changed = std::collections::BTreeSet::new();
    actions.retain(|action| match action {
        Action::Define(define) => match define.as_ref() {
            Define::Alter(table, _) => changed.insert(table.id),
            _ => true,
        },
        Action::Run(program) => !changed.contains(&program.table.id),
        _ => true,
    });
    actions
}

/// Blocks of a tape, with what the model makes of them.
pub(super) fn blocks(bytes: Vec<u8>) -> Vec<(Vec<Transaction>, Vec<Wanted>, Rows)> {
    let mut tape = Tape::new(bytes);
    let mut model = Model::default();
    let mut sequences = BTreeMap::new();
    let mut blocks = Vec::new();
    while !tape.is_empty() {
        model.height = model.height.next();
        let anchor = model.height.get() - 1;
        let mut fresh = model.clone();
        let transactions = tape.some(3, |tape| {
            let who = tape.pick(&['a', 'a', 'a', 'b']);
            let actions = known(tape.some(2, |tape| tape.action(&model)));
            let sequence: &mut u64 = sequences.entry(who).or_default();
            *sequence += 1;
            tx(&format!("{who}.{sequence}@{anchor}"), None, actions)
        });
        let wanted = transactions.iter().map(|tx| model_run(&mut fresh, tx)).collect();
        model = fresh;
        blocks.push((transactions, wanted, model.row_space().into_iter().collect()));
    }
    blocks
}

proptest! {
    #[test]
    fn tables_are_what_a_list_of_rows_is(bytes in vec(any::<u8>(), 0..1_500)) {
        let mut machine = open(MemoryStore::new());
        for (transactions, wanted, space) in blocks(bytes) {
            let applied = apply(&mut machine, &transactions);
            for (place, (wanted, rows)) in wanted.iter().enumerate() {
                let receipt = &applied.receipts[place];
                let actions = &transactions[place].actions;
                prop_assert_eq!(outcome(receipt), *wanted, "{:?}", actions);
                let done = applied.done.get(&receipt.tx).map_or(&[][..], Vec::as_slice);
                let returned: Vec<_> = done.iter().flat_map(|done| done.rows.clone()).collect();
                prop_assert_eq!(&returned, rows, "{:?}", actions);
                let count: u64 = done.iter().map(|done| done.row_count).sum();
                prop_assert_eq!(count, receipt.row_count, "{:?}", actions);
            }
            prop_assert_eq!(row_space(&machine, machine.applied()), space, "{:?}", transactions);
        }
    }

    #[test]
    fn no_schedule_changes_a_table(
        bytes in vec(any::<u8>(), 0..800),
        fates in vec((fate(), 0..3_u8), 40),
    ) {
        let blocks = blocks(bytes);
        let mut twin = open(MemoryStore::new());
        let wanted: Vec<Applied> = blocks.iter().map(|(block, ..)| apply(&mut twin, block)).collect();
        let mut machine = open(MemoryStore::new());
        let mut fates = fates.into_iter();
        loop {
            let next = usize::try_from(machine.applied().get()).expect("small");
            let Some((block, ..)) = blocks.get(next) else { break };
            let (fate, speculates) = fates.next().unwrap_or((Fate::Go, 0));
            let height = machine.applied().next();
            let mut guess = |hash: Hash, guess: &[Transaction]| {
                with_block(height, hash, guess, |block| machine.speculate(block)).expect("healthy");
            };
            if speculates > 0 {
                let wrong: Vec<Transaction> = block.iter().rev().cloned().collect();
                guess(sha256(b"another"), &wrong);
            }
            if speculates > 1 {
                guess(header_hash(height.get()), block);
            }
            prop_assert_eq!(&apply(&mut machine, block), &wanted[next]);
            match fate {
                Fate::Go => {}
                Fate::Flush => machine.flush().expect("memory flushes"),
                Fate::Crash => machine = open(machine.into_store()),
            }
        }
        prop_assert_eq!(dump(&machine), dump(&twin));
        machine.flush().expect("memory flushes");
        prop_assert_eq!(dump(&open(machine.into_store())), dump(&twin));
    }

    #[test]
    fn every_height_stays_readable(
        bytes in vec(any::<u8>(), 0..800),
        fates in vec(fate(), 40),
        places in vec((any::<u16>(), any::<u16>(), 0..12_usize, 0..4_u8), 20),
    ) {
        let blocks = blocks(bytes);
        let mut machine = open(MemoryStore::new());
        for ((block, ..), fate) in blocks.iter().zip(fates) {
            apply(&mut machine, block);
            if !matches!(fate, Fate::Go) {
                machine.flush().expect("memory flushes");
            }
        }
        let mut spaces: Vec<&Rows> = blocks.iter().map(|(.., space)| space).collect();
        let (nothing, mut all) = (vec![], vec![]);
        spaces.insert(0, &nothing);
        all.extend(spaces.iter().flat_map(|space| space.iter().map(|(key, _)| key.clone())));
        all.sort();
        all.dedup();
        for (height, space) in (0..).map(Height::new).zip(spaces) {
            prop_assert_eq!(&row_space(&machine, height), space, "{}", height);
            for key in &all {
                let wanted = space.iter().find(|(other, _)| other == key).map(|(_, row)| row.clone());
                prop_assert_eq!(machine.row_at(key, height).expect("healthy"), wanted);
            }
            for (from, to, limit, form) in &places {
                // A key, what begins one, the first behind one, or nothing.
                let bound = |place: u16| match (all.get(usize::from(place) % all.len().max(1)), form) {
                    (None, _) | (_, 3) => vec![],
                    (Some(key), 0) => key.clone(),
                    (Some(key), 1) => key[..key.len() / 2].to_vec(),
                    (Some(key), _) => crate::view::after(key),
                };
                let (from, to) = (bound(*from), Some(bound(*to)).filter(|_| *form < 3));
                let within = space.iter().filter(|(key, _)| *key >= from);
                let within = within.filter(|(key, _)| to.as_ref().is_none_or(|to| key < to));
                let wanted: Rows = within.take(*limit).cloned().collect();
                let rows = machine.rows_at(&from, to.as_deref(), *limit, height).expect("healthy");
                prop_assert_eq!(rows, wanted, "{} {:?} {:?}", height, from, to);
            }
        }
    }
}

proptest! {
    #[test]
    fn a_history_has_what_every_height_has_and_nothing_else(
        bytes in vec(any::<u8>(), 0..800),
        fates in vec(fate(), 40),
        (limit, newest) in (1..6_usize, any::<u8>()),
    ) {
        let blocks = blocks(bytes);
        let mut machine = open(MemoryStore::new());
        for ((block, ..), fate) in blocks.iter().zip(fates) {
            apply(&mut machine, block);
            if !matches!(fate, Fate::Go) {
                machine.flush().expect("memory flushes");
            }
        }
        let newest = Height::new(u64::from(newest) % (machine.applied().get() + 1));
        let (mut versions, mut next) = (vec![], Some(crate::VersionPlace::at(&[])));
        while let Some(place) = next {
            let (page, more) = machine.versions_at(&place, None, limit, newest).expect("healthy");
            versions.extend(page);
            next = more;
        }
        prop_assert!(versions.is_sorted_by_key(|version| (version.key.clone(), version.since)));
        for height in (0..=newest.get()).map(Height::new) {
            let stood = versions.iter().filter(|version| {
                version.since <= height && version.until.is_none_or(|until| height < until)
            });
            let stood: Rows = stood.map(|version| (version.key.clone(), version.row.clone())).collect();
            prop_assert_eq!(stood, row_space(&machine, height));
        }
    }
}

/// The generator reaches what it is for.
#[test]
fn random_programs_run_and_are_refused_for_every_reason() {
    let mut counts = BTreeMap::new();
    for seed in 0..800_u64 {
        let part = |part: u64| sha256_concat(&[&seed.to_le_bytes(), &part.to_le_bytes()]);
        let bytes = (0..50_u64).flat_map(|number| *part(number).bytes()).collect();
        for (outcome, _) in blocks(bytes).into_iter().flat_map(|(_, wanted, _)| wanted) {
            let name = match outcome {
                Ok(0) => "nothing done",
                Ok(_) => "rows changed",
                Err(((code, _), _)) => code.explanation().title,
            };
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    assert!(counts.values().all(|count| *count > 3), "{counts:?}");
    expect![[r#"
        another number of rows would have changed
        column is numbered by the ledger
        definition is wrong
        duplicate key value
        name is taken
        no such table
        nothing done
        null value in a column that refuses it
        others depend on it
        referenced row is missing
        role may not change this
        row is still referenced
        row violates a check constraint
        row would be changed twice
        rows changed
        table was changed meanwhile
        types do not fit
        value out of range
        value too long for its column"#]]
    .assert_eq(&counts.into_keys().collect::<Vec<_>>().join("\n"));
}
