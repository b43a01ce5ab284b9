/** Presents a {@link dev.attar.bench.Comparison}: HTML for people, JSON and CSV for programs, Markdown for issues and model cards. */
package dev.attar.bench.report;
