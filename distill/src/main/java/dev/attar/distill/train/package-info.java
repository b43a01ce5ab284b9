/**
 * What trains a student: the order of windows, losses, AdamW, the two phases, validation, checkpoints and metrics. {@link
 * dev.attar.distill.train.Trainer} is the way in.
 */
package dev.attar.distill.train;
