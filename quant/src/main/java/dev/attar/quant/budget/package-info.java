/**
 * Bit budgets: the type of each tensor so that the file just fits a size and the predicted loss is least. {@link
 * dev.attar.quant.budget.BudgetPlanner} finds out what each tensor can become; {@link dev.attar.quant.budget.OutputErrors} measures
 * what that does to the tensor's output; {@link dev.attar.quant.budget.LossModel} turns the errors into a Kullback-Leibler divergence,
 * by a few measured ones; {@link dev.attar.quant.budget.Knapsack} chooses. Uses {@code quant}, {@code compute} and {@code formats}.
 */
package dev.attar.quant.budget;
