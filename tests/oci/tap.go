// Package tap prints test results as the Test Anything Protocol has them. It stands in for
// github.com/mndrix/tap-go, which Debian does not package, and has the part of it that the
// validation programs of opencontainers/runtime-tools call.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the results that it has printed.
type T struct {
	count int
	todo  string
}

// New returns a T that has printed nothing yet.
func New() *T { return &T{} }

// Header prints the version, and the plan if the number of results is known.
func (t *T) Header(planned int) {
	fmt.Println("TAP version 13")
	if planned > 0 {
		fmt.Printf("1..%d\n", planned)
	}
}

// AutoPlan prints the plan for the results so far.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", t.count) }

// Ok prints one result.
func (t *T) Ok(passed bool, text string) {
	word := "ok"
	if !passed {
		word = "not ok"
	}
	t.count++
	fmt.Printf("%s %d -%s %s\n", word, t.count, t.todo, text)
}

// Pass prints a result that is right.
func (t *T) Pass(text string) { t.Ok(true, text) }

// Fail prints a result that is wrong.
func (t *T) Fail(text string) { t.Ok(false, text) }

// Skip prints results of tests that did not run.
func (t *T) Skip(count int, text string) {
	for ; count > 0; count-- {
		t.Ok(true, "# SKIP "+text)
	}
}

// Todo returns a T for one result that may be wrong.
func (t *T) Todo() *T { return &T{t.count, " # TODO"} }

// Diagnostic prints a comment.
func (t *T) Diagnostic(text string) {
	fmt.Println("# " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n# "))
}

// Diagnosticf prints a comment, as Printf has it.
func (t *T) Diagnosticf(format string, values ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, values...))
}

// YAML prints what belongs to the result before it; JSON is YAML, too.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", text)
	}
	return err
}
