//! `avg` and `sum` as PostgreSQL has them: exact for integers and decimals.
//!
//! | argument | `sum` | `avg` |
//! |---|---|---|
//! | int2, int4 | int8 | numeric, 16 digits after the point |
//! | int8 | numeric | numeric, 16 digits after the point |
//! | numeric(p,s) | numeric | numeric, max(16, s) digits after the point |
//! | float8 | float8 | float8 |
//!
//! Averages round half away from zero. A sum beyond 128 bits is an error, never a wrapped number. Deviation:
//! PostgreSQL gives an average a number of digits that depends on its size; here it is fixed.
//!
//! Argument types are left as they are (`coerce_types` is the identity): analysis may run twice on a plan.

#![expect(clippy::arithmetic_side_effects, reason = "counters of rows; sums are checked")]

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Decimal128Array, ListArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, UInt64Type, i256};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    Signature, Volatility,
};

/// Digits after the point of an average of integers.
const AVG_SCALE: i8 = 16;
const PRECISION: u8 = 38;

/// The functions that take the place of DataFusion's.
pub(crate) fn functions() -> [AggregateUDF; 2] {
    [AggregateUDF::new_from_impl(Sum::new()), AggregateUDF::new_from_impl(Avg::new())]
}

/// The scale of an exact argument; none for one that is a float or no number.
fn exact_scale(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale) => Some(*scale),
        other if other.is_integer() => Some(0),
        _ => None,
    }
}

pub(crate) fn overflow() -> DataFusionError {
    DataFusionError::Execution("value overflows numeric format".into())
}

fn not_a_number(function: &str, types: &[DataType]) -> DataFusionError {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    DataFusionError::Plan(format!("{function} takes one number, not ({})", types.join(", ")))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    signature: Signature,
}

impl Sum {
    fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Null] => {
                Ok(vec![DataType::Float64])
            }
            [only]
                if exact_scale(only).is_some()
                    || matches!(only, DataType::Interval(_) | DataType::Duration(_)) =>
            {
                Ok(types.to_vec())
            }
            _ => Err(not_a_number("sum", types)),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::Int64 | DataType::UInt64] => Ok(DataType::Decimal128(PRECISION, 0)),
            [only] if only.is_integer() => Ok(DataType::Int64),
            _ => sum_udaf().return_type(types),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Cast { inner: sum_udaf().accumulator(args)?, to }))
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        let to = args.return_field.data_type().clone();
        Ok(Box::new(Cast { inner: sum_udaf().create_sliding_accumulator(args)?, to }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        sum_udaf().state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let to = args.return_field.data_type().clone();
        Ok(Box::new(CastGroups { inner: sum_udaf().create_groups_accumulator(args)?, to }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Avg {
    signature: Signature,
}

impl Avg {
    fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Avg {
    fn name(&self) -> &'static str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [only] if exact_scale(only).is_some() => Ok(types.to_vec()),
            [DataType::Float16 | DataType::Float32 | DataType::Float64] => {
                Ok(vec![DataType::Float64])
            }
            [DataType::Null] => Ok(vec![DataType::Float64]),
            _ => Err(not_a_number("avg", types)),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first().and_then(exact_scale) {
            Some(scale) => Ok(DataType::Decimal128(PRECISION, scale.max(AVG_SCALE))),
            None => Ok(DataType::Float64),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match args.expr_fields.first().and_then(|field| exact_scale(field.data_type())) {
            Some(scale) if args.is_distinct => Ok(Box::new(DistinctAverage::new(scale))),
            Some(scale) => Ok(Box::new(Average { scale, sum: 0, count: 0 })),
            None => avg_udaf().accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(scale) =
            args.input_fields.first().and_then(|field| exact_scale(field.data_type()))
        else {
            return avg_udaf().state_fields(args);
        };
        let sum = DataType::Decimal128(PRECISION, scale);
        let name = args.name;
        if args.is_distinct {
            let item = Field::new_list_field(sum, true);
            return Ok(vec![Arc::new(Field::new_list(format!("{name}[distinct]"), item, false))]);
        }
        Ok(vec![
            Arc::new(Field::new(format!("{name}[count]"), DataType::UInt64, true)),
            Arc::new(Field::new(format!("{name}[sum]"), sum, true)),
        ])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        match args.expr_fields.first().and_then(|field| exact_scale(field.data_type())) {
            Some(scale) => Ok(Box::new(Averages { scale, sums: Vec::new(), counts: Vec::new() })),
            None => avg_udaf().create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Casts the argument, then lets another accumulator work.
#[derive(Debug)]
struct Cast {
    inner: Box<dyn Accumulator>,
    to: DataType,
}

fn cast_first(values: &[ArrayRef], to: &DataType) -> Result<Vec<ArrayRef>> {
    values.iter().map(|array| Ok(cast(array, to)?)).collect()
}

impl Accumulator for Cast {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&cast_first(values, &self.to)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&cast_first(values, &self.to)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }
}

struct CastGroups {
    inner: Box<dyn GroupsAccumulator>,
    to: DataType,
}

impl GroupsAccumulator for CastGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        let values = cast_first(values, &self.to)?;
        self.inner.update_batch(&values, group_indices, filter, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.inner.state(emit_to)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.inner.merge_batch(values, group_indices, group_count)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        self.inner.convert_to_state(&cast_first(values, &self.to)?, filter)
    }

    fn size(&self) -> usize {
        self.inner.size()
    }
}

/// `sum / count`, rounded half away from zero at the average's scale.
fn average(sum: i128, count: u64, scale: i8) -> Result<i128> {
    let digits = u32::try_from(scale.max(AVG_SCALE) - scale).unwrap_or_default();
    let factor = 10_i128.checked_pow(digits).ok_or_else(overflow)?;
    let count = i128::from(count);
    let rounded = |quotient: i128, rest: i128| {
        let half_or_more = rest.unsigned_abs() >= count.unsigned_abs() - rest.unsigned_abs();
        quotient + if half_or_more { sum.signum() } else { 0 }
    };
    if let Some(scaled) = sum.checked_mul(factor) {
        return Ok(rounded(scaled / count, scaled % count));
    }
    let scaled = i256::from_i128(sum).checked_mul(i256::from_i128(factor)).ok_or_else(overflow)?;
    let divisor = i256::from_i128(count);
    let quotient = scaled.checked_div(divisor).and_then(i256::to_i128).ok_or_else(overflow)?;
    let rest = scaled.checked_rem(divisor).and_then(i256::to_i128).ok_or_else(overflow)?;
    let result = rounded(quotient, rest);
    // 38 digits are what the type holds.
    if result.unsigned_abs() < 10_u128.pow(u32::from(PRECISION)) {
        Ok(result)
    } else {
        Err(overflow())
    }
}

fn decimals(array: &ArrayRef, scale: i8) -> Result<ArrayRef> {
    Ok(cast(array, &DataType::Decimal128(PRECISION, scale))?)
}

fn decimal_array(values: Vec<i128>, nulls: Option<NullBuffer>, scale: i8) -> Result<ArrayRef> {
    let array = Decimal128Array::new(values.into(), nulls);
    Ok(Arc::new(array.with_precision_and_scale(PRECISION, scale)?))
}

#[derive(Debug)]
struct Average {
    scale: i8,
    sum: i128,
    count: u64,
}

impl Average {
    fn add(&mut self, array: &ArrayRef, sign: i128) -> Result<()> {
        let array = decimals(array, self.scale)?;
        for value in array.as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum = self.sum.checked_add(value * sign).ok_or_else(overflow)?;
        }
        Ok(())
    }
}

fn present(array: &ArrayRef) -> u64 {
    u64::try_from(array.len() - array.logical_null_count()).unwrap_or_default()
}

impl Accumulator for Average {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for array in values.iter().take(1) {
            self.add(array, 1)?;
            self.count += present(array);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = match self.count {
            0 => None,
            count => Some(average(self.sum, count, self.scale)?),
        };
        Ok(ScalarValue::Decimal128(value, PRECISION, self.scale.max(AVG_SCALE)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::Decimal128(Some(self.sum), PRECISION, self.scale);
        Ok(vec![ScalarValue::UInt64(Some(self.count)), sum])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        if let [counts, sums] = states {
            self.count += counts.as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
            self.add(sums, 1)?;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for array in values.iter().take(1) {
            self.add(array, -1)?;
            self.count = self.count.saturating_sub(present(array));
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct DistinctAverage {
    scale: i8,
    values: BTreeSet<i128>,
}

impl DistinctAverage {
    fn new(scale: i8) -> Self {
        Self { scale, values: BTreeSet::new() }
    }

    fn add(&mut self, array: &ArrayRef) -> Result<()> {
        let array = decimals(array, self.scale)?;
        self.values.extend(array.as_primitive::<Decimal128Type>().iter().flatten());
        Ok(())
    }
}

impl Accumulator for DistinctAverage {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values.iter().take(1).try_for_each(|array| self.add(array))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = 0_i128;
        for value in &self.values {
            sum = sum.checked_add(*value).ok_or_else(overflow)?;
        }
        let mut all = Average {
            scale: self.scale,
            sum,
            count: u64::try_from(self.values.len()).unwrap_or_default(),
        };
        all.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.len() * 32
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<i128> = self.values.iter().copied().collect();
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        let values = decimal_array(values, None, self.scale)?;
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let list = ListArray::try_new(item, offsets, values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for lists in states.iter().take(1) {
            for list in lists.as_list::<i32>().iter().flatten() {
                self.add(&list)?;
            }
        }
        Ok(())
    }
}

struct Averages {
    scale: i8,
    sums: Vec<i128>,
    counts: Vec<u64>,
}

impl Averages {
    fn add(&mut self, group: usize, value: i128, count: u64) -> Result<()> {
        if let (Some(sum), Some(total)) = (self.sums.get_mut(group), self.counts.get_mut(group)) {
            *sum = sum.checked_add(value).ok_or_else(overflow)?;
            *total += count;
        }
        Ok(())
    }

    fn grow(&mut self, group_count: usize) {
        self.sums.resize(group_count, 0);
        self.counts.resize(group_count, 0);
    }
}

impl GroupsAccumulator for Averages {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.grow(group_count);
        let Some(array) = values.first() else { return Ok(()) };
        let array = decimals(array, self.scale)?;
        let array = array.as_primitive::<Decimal128Type>();
        for (row, (value, group)) in array.iter().zip(group_indices).enumerate() {
            let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let Some(value) = value.filter(|_| kept) {
                self.add(*group, value, 1)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        let nulls: NullBuffer = counts.iter().map(|count| *count > 0).collect();
        let values = sums
            .into_iter()
            .zip(counts)
            .map(|(sum, count)| if count == 0 { Ok(0) } else { average(sum, count, self.scale) })
            .collect::<Result<Vec<i128>>>()?;
        decimal_array(values, Some(nulls), self.scale.max(AVG_SCALE))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let counts = emit_to.take_needed(&mut self.counts);
        let sums = emit_to.take_needed(&mut self.sums);
        Ok(vec![Arc::new(UInt64Array::from(counts)), decimal_array(sums, None, self.scale)?])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.grow(group_count);
        let [counts, sums] = values else { return Ok(()) };
        let counts = counts.as_primitive::<UInt64Type>();
        let sums = sums.as_primitive::<Decimal128Type>();
        for ((count, sum), group) in counts.iter().zip(sums.iter()).zip(group_indices) {
            self.add(*group, sum.unwrap_or_default(), count.unwrap_or_default())?;
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let Some(array) = values.first() else { return Ok(Vec::new()) };
        let array = decimals(array, self.scale)?;
        let array = array.as_primitive::<Decimal128Type>();
        let kept =
            |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let rows = array.iter().enumerate().map(|(row, value)| value.filter(|_| kept(row)));
        let (counts, sums): (Vec<u64>, Vec<i128>) =
            rows.map(|value| (u64::from(value.is_some()), value.unwrap_or_default())).unzip();
        Ok(vec![Arc::new(UInt64Array::from(counts)), decimal_array(sums, None, self.scale)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.counts.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_round_half_away_from_zero_whatever_their_size() {
        let one = 10_i128.pow(16);
        assert_eq!(average(1, 2, 0).unwrap(), one / 2);
        assert_eq!(average(2, 3, 0).unwrap(), 6_666_666_666_666_667);
        assert_eq!(average(-2, 3, 0).unwrap(), -6_666_666_666_666_667);
        assert_eq!(average(1, 2, 16).unwrap(), 1);
        assert_eq!(average(-1, 2, 16).unwrap(), -1);
        let large = i128::from(i64::MAX) * 1_000_000;
        assert_eq!(average(large, 1_000_000, 0).unwrap(), i128::from(i64::MAX) * one);
        assert!(average(i128::MAX, 1, 0).is_err());
    }
}
