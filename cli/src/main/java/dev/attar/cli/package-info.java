/**
 * The {@code attar} command: one class per subcommand, options that several share as mixins, and everything that is printed. The
 * only place that parses options, prints or ends the process. May use every other module.
 */
package dev.attar.cli;
