/**
 * Distillation: a smaller student is trained to say what a teacher says. {@link dev.attar.distill.teacher} asks the teacher, which
 * llama.cpp runs in a process of its own, or a cache of its answers; {@link dev.attar.distill.student} makes the student and presents what
 * became of it; {@link dev.attar.distill.network} is the student's computation, forward and backward, on a device; {@link
 * dev.attar.distill.DistillRun} trains. Uses {@code calibration} and what is below it; what it makes is a {@link
 * dev.attar.formats.Model} that others write.
 */
package dev.attar.distill;
