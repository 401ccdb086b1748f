//! Minimises the objective with L-BFGS of the crate `argmin`. Every rank makes the same steps, from the same sums.

use super::objective::ProbeObjective;
use super::{MOST_STEPS, Probe, TOLERANCE};
use crate::engine::failure::Failure;
use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use std::cell::{Cell, RefCell};
use tch::{Device, Kind, Tensor};

/// History size of L-BFGS.
const MEMORY: usize = 10;
/// Vectors of the length of the parameters that a fit needs: two per step of the history, and about a dozen for points,
/// directions and gradients.
pub(crate) const VECTORS: usize = 2 * MEMORY + 12;

/// Minimises the objective from zero weights.
pub(crate) fn minimise<F: FnMut(u64, f64, f64) -> Result<(), Failure>>(
    objective: &ProbeObjective<'_>,
    each: F,
) -> Result<Probe, Failure> {
    let shape = objective.shape();
    let zero = vec![0.0; shape.iter().product::<i64>() as usize];
    let problem = ProbeProblem::new(objective, each);
    let first = problem.evaluate(&zero)?.norm();
    if !first.is_finite() || first == 0.0 {
        return Err(Failure::run(format!(
            "the linear probe cannot be fitted: at zero weights its gradient has the norm {first}, because features are not \
             finite or those of all classes alike\nhint: use another head.init"
        ))
        .on_all_ranks());
    }
    problem.first.set(first);
    let defect = |error: Error| Failure::run(format!("the linear probe cannot be fitted: {error}"));
    // An objective that no longer changes is no reason to stop: the gradient is.
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
        .with_tolerance_grad(TOLERANCE * first)
        .and_then(|solver| solver.with_tolerance_cost(0.0))
        .map_err(defect)?;
    let executor = Executor::new(&problem, solver);
    let result = executor.configure(|state| state.param(zero).max_iters(MOST_STEPS)).run();
    if let Some(failure) = problem.failure.take() {
        return Err(failure);
    }
    let state = result.map_err(defect)?.state;
    let nothing = || Failure::run("the linear probe cannot be fitted: the optimiser returned no parameters");
    let found = state.get_param().or_else(|| state.get_best_param()).ok_or_else(nothing)?;
    let weight = objective.weights(&Tensor::from_slice(found).view(shape));
    let end = problem.evaluate(found)?;
    let gradient = end.norm() / first;
    Ok(Probe { weight, objective: end.value, gradient, steps: state.get_iter() })
}

/// Adapter of the objective for the optimiser, which requests value and gradient separately.
struct ProbeProblem<'a, F> {
    objective: &'a ProbeObjective<'a>,
    each: RefCell<F>,
    evaluations: Cell<u64>,
    /// Norm of the gradient at zero weights.
    first: Cell<f64>,
    last: RefCell<Option<Point>>,
    /// The error that ended the fit: the optimiser treats an error as the end of a line search.
    failure: RefCell<Option<Failure>>,
}

/// Parameters, and the objective there.
struct Point {
    parameters: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

impl Point {
    fn norm(&self) -> f64 {
        self.gradient.iter().map(|x| x * x).sum::<f64>().sqrt()
    }
}

impl<'a, F: FnMut(u64, f64, f64) -> Result<(), Failure>> ProbeProblem<'a, F> {
    fn new(objective: &'a ProbeObjective<'a>, each: F) -> Self {
        Self {
            objective,
            each: RefCell::new(each),
            evaluations: Cell::new(0),
            first: Cell::new(1.0),
            last: RefCell::new(None),
            failure: RefCell::new(None),
        }
    }

    fn evaluate(&self, parameters: &[f64]) -> Result<Point, Failure> {
        let at = Tensor::from_slice(parameters).view(self.objective.shape());
        let (value, gradient) = self.objective.evaluate(&at)?;
        let gradient = gradient.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
        let gradient = Vec::<f64>::try_from(gradient).map_err(Failure::run)?;
        let point = Point { parameters: parameters.to_vec(), value, gradient };
        self.evaluations.set(self.evaluations.get() + 1);
        (self.each.borrow_mut())(self.evaluations.get(), value, point.norm() / self.first.get())?;
        Ok(point)
    }

    fn at<T>(&self, parameters: &[f64], read: impl FnOnce(&Point) -> T) -> Result<T, Error> {
        let mut last = self.last.borrow_mut();
        if let Some(point) = last.as_ref().filter(|point| point.parameters == parameters) {
            return Ok(read(point));
        }
        let point = self.evaluate(parameters).map_err(|failure| {
            self.failure.replace(Some(failure.clone()));
            Error::new(failure)
        })?;
        Ok(read(last.insert(point)))
    }
}

impl<F: FnMut(u64, f64, f64) -> Result<(), Failure>> CostFunction for &ProbeProblem<'_, F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, parameters: &Vec<f64>) -> Result<f64, Error> {
        self.at(parameters, |point| point.value)
    }
}

impl<F: FnMut(u64, f64, f64) -> Result<(), Failure>> Gradient for &ProbeProblem<'_, F> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, parameters: &Vec<f64>) -> Result<Vec<f64>, Error> {
        self.at(parameters, |point| point.gradient.clone())
    }
}
