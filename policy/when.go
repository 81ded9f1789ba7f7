package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// When is a compiled `when`: an expression over attributes and lists, in the
// language of github.com/expr-lang/expr.
type When struct {
	source  string
	program *vm.Program
	read    []placed
	reads   AttributeSet // the same
	unset   []int        // where a sender is compared with "", in bytes
	rules   []ruleName   // that the rule is compared with
	asks    []ask        // of lists
	scope   scope        // how long an answer holds
}

// ruleName is the name of a rule in an expression, and where it stands, in bytes.
type ruleName struct {
	name   string
	offset int
}

// ask is what stands before `in` and a list.
type ask struct {
	name string // the list's
	list *List
	of   Term
	term bool // it is of, and not made of it
}

// SyntaxError is a mistake inside a text of the configuration.
type SyntaxError struct {
	Offset int // in bytes, from the text's beginning
	Err    error
}

func (e *SyntaxError) Error() string { return e.Err.Error() }
func (e *SyntaxError) Unwrap() error { return e.Err }

// CompileWhen compiles an expression and checks its types. Lists are what
// `in` may name. A mistake is a [*SyntaxError].
func CompileWhen(source string, lists map[string]*List) (*When, error) {
	c := &whenCompiler{lists: lists}
	options := []expr.Option{
		expr.Env(Event{}), // not a pointer, so that fields are read by index
		expr.AsBool(),
		expr.WarnOnAny(),
		expr.DisableBuiltin("now"), // a decision depends on its event and the counts alone
		expr.Patch(c),
	}
	for name, list := range lists {
		options = append(options, listFunction(name, list))
	}
	program, err := expr.Compile(source, options...)
	if c.err() != nil {
		err = c.err()
	}
	if err != nil {
		return nil, syntaxError(source, err)
	}
	w := &When{source: source, program: program, read: c.read, asks: c.asks}
	for _, n := range c.unset {
		w.unset = append(w.unset, byteOffset(source, n.Location().From))
	}
	for _, n := range c.rules {
		w.rules = append(w.rules, ruleName{n.Value, byteOffset(source, n.Location().From)})
	}
	for i := range w.read {
		w.read[i].offset = byteOffset(source, w.read[i].offset)
		w.scope = max(w.scope, w.read[i].Attribute.scope())
		w.reads = w.reads.With(w.read[i].Attribute)
	}
	return w, nil
}

// String is the expression as the configuration has it.
func (w *When) String() string { return w.source }

// terms are the attributes and headers that the expression reads, each where it
// stands first.
func (w *When) terms() []placed {
	if w == nil {
		return nil
	}
	return w.read
}

// unknown reports whether the expression reads what the session does not know.
func (w *When) unknown(ev *Event) bool { return w != nil && w.reads&ev.Unknown != 0 }

// holds is the expression's answer to the event in hand, which may be one that
// was kept; a nil When always holds.
func (w *When) holds(ev *Event) (bool, error) {
	if w == nil {
		return true, nil
	}
	if w.scope == perEvent {
		return w.ask(ev)
	}
	holds, known := ev.state.answers[w.scope][w]
	if known {
		return holds, nil
	}
	holds, err := w.ask(ev)
	if err == nil {
		ev.state.answers.keep(w, holds)
	}
	return holds, err
}

// ask evaluates the expression.
func (w *When) ask(ev *Event) (bool, error) {
	v, err := ev.state.vm.Run(w.program, ev)
	if err != nil {
		var at *file.Error
		if errors.As(err, &at) {
			err = errors.New(bounded(harmless(at.Message))) // it may quote what a client sent
		}
		return false, fmt.Errorf("evaluating when %q: %w", w.source, err)
	}
	return v.(bool), nil
}

// syntaxError turns the compiler's error, whose place counts in runes, into
// one line and an offset in bytes.
func syntaxError(source string, err error) *SyntaxError {
	var at *file.Error
	if !errors.As(err, &at) {
		return &SyntaxError{0, err}
	}
	message, _, _ := strings.Cut(at.Message, "\n")
	offset := byteOffset(source, at.From)
	if at.Prev != nil {
		return &SyntaxError{offset, at.Prev}
	}
	for _, h := range whenHints {
		if strings.Contains(message, h.part) {
			message += "; " + h.hint
			break
		}
	}
	return &SyntaxError{offset, errors.New(message)}
}

// whenHints say what would be right, by what the compiler says is wrong.
var whenHints = []struct{ part, hint string }{
	{`Operator("=")`, `write == to compare, or matches with a regular expression`},
	{`Identifier("AND")`, `write and in small letters`},
	{`Identifier("OR")`, `write or in small letters`},
	{`unrecognized character`, `put a text in quotes, such as "alice@example.com"`},
	{`bad number syntax`, `write the number without a unit, such as 10000000`},
	{`invalid char escape`, `write two backslashes for one`},
	{`not (mismatched type`, `put what is behind it in brackets, as in not (helo_name contains ".")`},
	{`in (mismatched types string and string)`, `write a list, as in ["a", "b"]; of a part of a text write contains`},
	{`(mismatched types int and string)`, `write a number without quotes`},
	{`(mismatched types string and int)`, `put a text in quotes, such as "5.1.1"`},
	{`(mismatched types string and float64)`, `put a text in quotes, such as "5.1.1"`},
	{`token Number(".`, `put a text in quotes, such as "5.1.1"`},
	{`Operator(".")`, `put a text in quotes, such as "5.1.1"`},
	{`Operator(":")`, `put a text in quotes, such as "5.1.1"`},
	{`unexpected token EOF`, `the expression is not complete`},
}

// byteOffset is where the character of that number begins.
func byteOffset(source string, character int) int {
	for i := range source {
		if character == 0 {
			return i
		}
		character--
	}
	return len(source)
}

// listFunction makes a list callable; no expression can spell its name, so
// that `in` stays the one way to ask a list.
func listFunction(name string, list *List) expr.Option {
	has := list.hasText
	if list.kind == CIDRList {
		has = func(s string) bool {
			addr, err := netip.ParseAddr(s)
			return err == nil && list.hasAddr(addr)
		}
	}
	return expr.Function(listPrefix+name, func(args ...any) (any, error) {
		return has(args[0].(string)), nil
	}, new(func(string) bool))
}

const listPrefix = "list "

// whenCompiler walks an expression: it collects the attributes, turns `x in
// list` into a call of the list, and finds the mistakes that the type checker
// cannot.
type whenCompiler struct {
	lists map[string]*List

	read     []placed // with offsets in characters
	unknown  []*ast.IdentifierNode
	asked    []*ast.IdentifierNode // of these, those that `in` stands before
	header   []*ast.IdentifierNode // uses of `header` without a name behind it, so far
	declared []string              // let x = …
	unset    []ast.Node            // "" that a sender is compared with
	rules    []*ast.StringNode     // what the rule is compared with
	asks     []ask
	mistakes []*file.Error
}

// Visit sees each node after its children.
func (c *whenCompiler) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		c.identifier(n)
	case *ast.MemberNode:
		c.member(n)
	case *ast.VariableDeclaratorNode:
		c.declared = append(c.declared, n.Name)
	case *ast.BinaryNode:
		if n.Operator == "in" && c.ask(node, n) {
			return
		}
		c.checkCase(n)
		c.checkNil(n)
	}
}

// checkNil refuses to compare a value with nil: one that is not there is "".
func (c *whenCompiler) checkNil(n *ast.BinaryNode) {
	for _, sides := range [][2]ast.Node{{n.Left, n.Right}, {n.Right, n.Left}} {
		t, isTerm := termOf(sides[0])
		if _, isNil := sides[1].(*ast.NilNode); !isNil || !isTerm {
			continue
		}
		none := `""`
		if t.Attribute.Kind() == Number {
			none = "0"
		}
		c.mistake(sides[1], fmt.Errorf("%s is never nil; where it is not there it is %s", t, none))
	}
}

func (c *whenCompiler) identifier(n *ast.IdentifierNode) {
	a, known := ParseAttribute(n.Value)
	switch {
	case known && a == Header:
		c.header = append(c.header, n)
	case known:
		c.use(Term{Attribute: a}, n)
	case strings.HasPrefix(n.Value, listPrefix):
	default:
		c.unknown = append(c.unknown, n)
	}
}

// member makes the name in header["name"] canonical.
func (c *whenCompiler) member(n *ast.MemberNode) {
	of, ok := n.Node.(*ast.IdentifierNode)
	if !ok || of.Value != Header.String() {
		return
	}
	name, ok := n.Property.(*ast.StringNode)
	if !ok || !validHeaderName(name.Value) {
		return // header[…] without a constant name stays a mistake
	}
	name.Value = textproto.CanonicalMIMEHeaderKey(name.Value)
	c.use(Term{Header, name.Value}, of)
	c.header = slices.DeleteFunc(c.header, func(h *ast.IdentifierNode) bool { return h == of })
}

func (c *whenCompiler) use(t Term, n ast.Node) {
	if !slices.ContainsFunc(c.read, func(p placed) bool { return p.Term == t }) {
		c.read = append(c.read, placed{t, n.Location().From})
	}
}

// ask turns `value in list` into a call of the list's function.
func (c *whenCompiler) ask(node *ast.Node, n *ast.BinaryNode) bool {
	name, ok := n.Right.(*ast.IdentifierNode)
	if !ok {
		return false
	}
	if c.lists[name.Value] == nil {
		c.asked = append(c.asked, name)
		return false
	}
	c.unknown = slices.DeleteFunc(c.unknown, func(u *ast.IdentifierNode) bool { return u == name })
	if c.lists[name.Value].kind == CIDRList && kindOf(n.Left) != Address {
		c.mistake(n.Left, fmt.Errorf("%s is a list of networks; only an address, such as client_address, can be in it", name.Value))
	}
	of, term := termOf(n.Left)
	c.asks = append(c.asks, ask{name.Value, c.lists[name.Value], of, term})
	ast.Patch(node, &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: listPrefix + name.Value},
		Arguments: []ast.Node{n.Left},
	})
	return true
}

func kindOf(n ast.Node) Kind {
	if t, ok := termOf(n); ok {
		return t.Attribute.Kind()
	}
	return Text
}

// termOf is the attribute or the header that a node is.
func termOf(n ast.Node) (t Term, ok bool) {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		t.Attribute, ok = ParseAttribute(n.Value)
	case *ast.MemberNode:
		of, isName := n.Node.(*ast.IdentifierNode)
		name, isText := n.Property.(*ast.StringNode)
		if ok = isName && isText && of.Value == Header.String(); ok {
			t = Term{Header, name.Value}
		}
	}
	return t, ok
}

// checkCase refuses a comparison that cannot hold because attributes have one
// spelling.
func (c *whenCompiler) checkCase(n *ast.BinaryNode) {
	switch n.Operator {
	case "==", "!=":
		c.checkSpelling(n.Right, n.Left, n.Operator)
		c.checkSpelling(n.Left, n.Right, n.Operator)
	case "in", "startsWith", "endsWith", "contains", "matches":
		c.checkSpelling(n.Left, n.Right, n.Operator)
	}
}

// checkSpelling looks at the texts that an attribute is compared with.
func (c *whenCompiler) checkSpelling(attribute, texts ast.Node, operator string) {
	nodes := []ast.Node{texts}
	if list, ok := texts.(*ast.ArrayNode); ok {
		nodes = list.Nodes
	}
	for _, node := range nodes {
		text, ok := node.(*ast.StringNode)
		if !ok {
			continue
		}
		var err error
		switch of := attribute.(type) {
		case *ast.BuiltinNode:
			err = checkLower(of.Name, text.Value, operator)
		case *ast.IdentifierNode:
			a, ok := ParseAttribute(of.Value)
			switch {
			case ok && a == Sender && text.Value == "" && isWhole(operator):
				c.unset = append(c.unset, node)
			case ok && a == RuleName && text.Value != "" && isWhole(operator):
				c.rules = append(c.rules, text)
			case ok && a.Kind() != Number && !asReceived(a):
				err = a.checkSpelling(text.Value, operator)
			}
		}
		if err != nil {
			c.mistake(node, err)
		}
	}
}

func (c *whenCompiler) mistake(n ast.Node, err error) {
	c.mistakes = append(c.mistakes, &file.Error{Location: n.Location(), Message: err.Error(), Prev: err})
}

// err is the first mistake that the walk found.
func (c *whenCompiler) err() error {
	for _, n := range c.unknown {
		if slices.Contains(c.declared, n.Value) {
			continue
		}
		if c.lists[n.Value] != nil {
			c.mistake(n, fmt.Errorf("%s is a list; write ... in %s", n.Value, n.Value))
			continue
		}
		if slices.Contains(c.asked, n) {
			c.mistake(n, UnknownError{"list", n.Value, slices.Sorted(maps.Keys(c.lists))})
			continue
		}
		c.mistake(n, UnknownError{"attribute", n.Value, c.names()})
	}
	for _, n := range c.header {
		c.mistake(n, errors.New(`header needs a name; write header["Name"]`))
	}
	if len(c.mistakes) == 0 {
		return nil
	}
	return slices.MinFunc(c.mistakes, func(a, b *file.Error) int { return a.From - b.From })
}

func (c *whenCompiler) names() []string {
	names := AttributeNames()
	for name := range c.lists {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
