/** JSON as checkpoints use it, read with bounds on nesting and size. Uses Jackson. */
package dev.attar.formats.json;
