/* Runs OpenECAD code: the statements in order, their expressions, and what is implicit in v2:
 * a curve goes to the last list named Curves…, a loop to the last list named Loops…. */
#include "cad/language/interpret.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

enum {
    SUGGESTIONS_MAX = 512, /* names that a misspelt one is compared with */
    ITEMS_MIN = 8
};

static const Node *node_at(const Run *run, int node) {
    return &run->ast->nodes[node];
}

static const char *name_at(const Run *run, int name) {
    return names_text(&run->ast->names, name);
}

static ListObject *list_at(const Run *run, Value list) {
    return &((ListObject *)run->lists.items)[list.index];
}

static Value new_list(Run *run) {
    items_add(&run->lists, sizeof(ListObject));
    return (Value){.kind = VALUE_LIST, .index = run->lists.count - 1};
}

static void list_append(const Run *run, Value list, Value value) {
    *(Value *)items_add(&list_at(run, list)->values, sizeof value) = value;
}

static bool same_object(Value a, Value b) {
    return a.kind == b.kind && a.kind >= VALUE_LIST && a.index == b.index;
}

/* "X is not known; did you mean Y?" among the functions and what has a value. */
static Err unknown_name(Run *run, const Node *node, const char *name) {
    const char *known[SUGGESTIONS_MAX];
    int count, used = 0;
    const Builtin *builtins = builtin_all(&count);
    for (int i = 0; i < count; i++) known[used++] = builtins[i].name;
    known[used++] = "np";
    for (int n = run->ast->names.count - 1; n >= 0 && used < SUGGESTIONS_MAX; n--)
        if (run->variables[n].kind != VALUE_UNSET) known[used++] = name_at(run, n);
    const char *nearest = text_nearest(name, known, used);
    if (nearest)
        return code_fail(run->error, node->place, false,
                         "'%.60s' is not known; did you mean '%.60s'?", name, nearest);
    return code_fail(run->error, node->place, false, "'%.60s' is not known", name);
}

static Err evaluate(Run *run, int node, Value *out);

static Err evaluate_name(Run *run, const Node *node, Value *out) {
    *out = run->variables[node->name];
    if (out->kind != VALUE_UNSET) return OK;
    const char *name = name_at(run, node->name);
    if (strcmp(name, "True") == 0 || strcmp(name, "False") == 0)
        *out = (Value){.kind = VALUE_BOOL, .truth = name[0] == 'T'};
    else if (strcmp(name, "None") == 0)
        *out = (Value){.kind = VALUE_NONE};
    else if (strcmp(name, "np") == 0 || strcmp(name, "numpy") == 0)
        *out = (Value){.kind = VALUE_MODULE};
    else if (builtin_find(name))
        return code_fail(run->error, node->place, false,
                         "'%s' is a function: it is called as %s(…)", name, name);
    else
        return unknown_name(run, node, name);
    return OK;
}

static Err evaluate_attribute(Run *run, const Node *node, Value *out) {
    Value owner;
    TRY(evaluate(run, node->child, &owner));
    const char *name = name_at(run, node->name);
    if (owner.kind == VALUE_MODULE && strcmp(name, "pi") == 0) {
        *out = (Value){.kind = VALUE_NUMBER, .number = M_PI};
        return OK;
    }
    if (owner.kind == VALUE_MODULE)
        return code_fail(run->error, node->place, false,
                         "np.%.60s is not understood; of numpy there are np.pi and np.array", name);
    return code_fail(run->error, node->place, false, "%s has no '%.60s' to read",
                     value_kind_name(owner.kind), name);
}

static Err evaluate_list(Run *run, const Node *node, Value *out) {
    *out = new_list(run);
    for (int child = node->child; child >= 0; child = node_at(run, child)->next) {
        Value element;
        TRY(evaluate(run, child, &element));
        list_append(run, *out, element);
    }
    return OK;
}

static Err evaluate_number(Run *run, int node, double *out) {
    Value value;
    TRY(evaluate(run, node, &value));
    if (value.kind != VALUE_NUMBER)
        return code_fail(run->error, node_at(run, node)->place, false,
                         "only numbers can be calculated with, and this is %s",
                         value_kind_name(value.kind));
    *out = value.number;
    return OK;
}

static Err evaluate_binary(Run *run, const Node *node, Value *out) {
    double a, b, result = 0;
    TRY(evaluate_number(run, node->child, &a));
    TRY(evaluate_number(run, node_at(run, node->child)->next, &b));
    if (node->op == '/' && b == 0)
        return code_fail(run->error, node->place, false, "%g is divided by zero", a);
    switch (node->op) {
    case '+': result = a + b; break;
    case '-': result = a - b; break;
    case '*': result = a * b; break;
    case '/': result = a / b; break;
    default: CHECK(false, "operator %c", node->op);
    }
    if (!isfinite(result))
        return code_fail(run->error, node->place, false, "%g %c %g is too large", a, node->op, b);
    *out = (Value){.kind = VALUE_NUMBER, .number = result};
    return OK;
}

/* The place of an argument among the parameters; an error for one that is unknown or given twice.
 */
static Err find_parameter(Run *run, const Call *call, const Node *argument, int position,
                          int *out) {
    const Builtin *builtin = call->builtin;
    int count = 0;
    while (count < CALL_ARGUMENTS_MAX && builtin->parameters[count]) count++;
    if (argument->kind != NODE_KEYWORD) {
        if (position >= count)
            return code_fail(run->error, argument->place, false, "%s takes %d arguments, not more",
                             builtin->name, count);
        *out = position;
    } else {
        const char *name = name_at(run, argument->name);
        *out = 0;
        while (*out < count && strcmp(builtin->parameters[*out], name) != 0) ++*out;
        if (*out == count) {
            const char *nearest = text_nearest(name, builtin->parameters, count);
            return code_fail(run->error, argument->place, false, "%s has no '%.60s'%s%s%s",
                             builtin->name, name, nearest ? "; did you mean '" : "",
                             nearest ? nearest : "", nearest ? "'?" : "");
        }
    }
    if (call->args[*out].kind != VALUE_UNSET)
        return code_fail(run->error, argument->place, false, "%s: %s is given twice", builtin->name,
                         builtin->parameters[*out]);
    return OK;
}

static Err call_builtin(Run *run, const Node *node, const Builtin *builtin, Value *out) {
    Call call = {.builtin = builtin, .place = node->place};
    int position = 0;
    bool keyword_seen = false;
    for (int child = node_at(run, node->child)->next; child >= 0; position++) {
        const Node *argument = node_at(run, child);
        bool keyword = argument->kind == NODE_KEYWORD;
        if (keyword_seen && !keyword)
            return code_fail(run->error, argument->place, true,
                             "an argument without a name after one with a name");
        keyword_seen = keyword;
        int parameter = 0;
        TRY(find_parameter(run, &call, argument, position, &parameter));
        int value = keyword ? argument->child : child;
        TRY(evaluate(run, value, &call.args[parameter]));
        call.places[parameter] = node_at(run, value)->place;
        child = argument->next;
    }
    for (int i = 0; i < builtin->required; i++)
        if (call.args[i].kind == VALUE_UNSET)
            return code_fail(run->error, node->place, false, "%s: %s is missing", builtin->name,
                             builtin->parameters[i]);
    return builtin->call(run, &call, out);
}

/* The single argument of a method. */
static Err only_argument(Run *run, const Node *node, const char *method, Value *out) {
    int argument = node_at(run, node->child)->next;
    if (argument < 0 || node_at(run, argument)->next >= 0 ||
        node_at(run, argument)->kind == NODE_KEYWORD)
        return code_fail(run->error, node->place, false, "%s takes one argument", method);
    return evaluate(run, argument, out);
}

/* list.append(x), as v1 writes it after each curve and loop: what the list already has stays
 * single. np.array(list): the list. */
static Err call_method(Run *run, const Node *node, const Node *method, Value *out) {
    Value owner, argument;
    TRY(evaluate(run, method->child, &owner));
    const char *name = name_at(run, method->name);
    if (owner.kind == VALUE_MODULE && strcmp(name, "array") == 0)
        return only_argument(run, node, "np.array", out);
    if (owner.kind != VALUE_LIST || strcmp(name, "append") != 0)
        return code_fail(run->error, method->place, false, "%s has no '%.60s' to call",
                         value_kind_name(owner.kind), name);
    TRY(only_argument(run, node, "append", &argument));
    *out = (Value){.kind = VALUE_NONE};
    const Items *values = &list_at(run, owner)->values;
    if (values->count && same_object(((Value *)values->items)[values->count - 1], argument))
        return OK;
    list_append(run, owner, argument);
    return OK;
}

static Err evaluate_call(Run *run, const Node *node, Value *out) {
    const Node *callee = node_at(run, node->child);
    if (callee->kind == NODE_ATTRIBUTE) return call_method(run, node, callee, out);
    if (callee->kind != NODE_NAME)
        return code_fail(run->error, node->place, false, "only a function can be called");
    const char *name = name_at(run, callee->name);
    if (run->variables[callee->name].kind != VALUE_UNSET)
        return code_fail(run->error, node->place, false, "'%.60s' is %s and cannot be called", name,
                         value_kind_name(run->variables[callee->name].kind));
    const Builtin *builtin = builtin_find(name);
    if (!builtin) return unknown_name(run, callee, name);
    return call_builtin(run, node, builtin, out);
}

/* The depth of the recursion is that of the tree, which the parser bounds. */
static Err evaluate(Run *run, int index, Value *out) {
    const Node *node = node_at(run, index);
    switch ((NodeKind)node->kind) {
    case NODE_NUMBER: *out = (Value){.kind = VALUE_NUMBER, .number = node->number}; return OK;
    case NODE_TEXT: *out = (Value){.kind = VALUE_TEXT, .index = node->name}; return OK;
    case NODE_NAME: return evaluate_name(run, node, out);
    case NODE_ATTRIBUTE: return evaluate_attribute(run, node, out);
    case NODE_LIST: return evaluate_list(run, node, out);
    case NODE_CALL: return evaluate_call(run, node, out);
    case NODE_BINARY: return evaluate_binary(run, node, out);
    case NODE_NEGATE:
        out->kind = VALUE_NUMBER;
        TRY(evaluate_number(run, node->child, &out->number));
        out->number = -out->number;
        return OK;
    case NODE_KEYWORD:
    case NODE_ASSIGN:
    case NODE_UNPACK:
    case NODE_IMPORT: break;
    }
    CHECK(false, "node kind %d is no value", node->kind);
}

static bool begins_with(const char *name, const char *start) {
    return strncmp(name, start, strlen(start)) == 0;
}

/* What v2 does when a name is assigned to, by how the name begins. */
static Err collect_implicitly(Run *run, const Node *node, Value value) {
    const char *name = name_at(run, node->name);
    if (value.kind == VALUE_LIST) {
        if (begins_with(name, "Curves")) run->curve_list = value.index;
        if (begins_with(name, "Loops")) run->loop_list = value.index;
        return OK;
    }
    bool is_curve =
        value.kind == VALUE_CURVE &&
        (begins_with(name, "Line") || begins_with(name, "Arc") || begins_with(name, "Circle"));
    bool is_loop = value.kind == VALUE_LOOP && begins_with(name, "Loop");
    if (!is_curve && !is_loop) return OK;
    int list = is_curve ? run->curve_list : run->loop_list;
    if (list < 0)
        return code_fail(run->error, node->place, false,
                         "%.60s has no list to go to: %s = [] must stand before it", name,
                         is_curve ? "Curves0_0" : "Loops0");
    list_append(run, (Value){.kind = VALUE_LIST, .index = list}, value);
    return OK;
}

static Err assign(Run *run, const Node *target, Value value) {
    run->variables[target->name] = value;
    return collect_implicitly(run, target, value);
}

/* "Loops0, Curves0_0 = [], []": all values first, then the names from left to right. */
static Err unpack(Run *run, const Node *node) {
    const Node *targets = node_at(run, node->child);
    Value list;
    TRY(evaluate(run, targets->next, &list));
    int names = 0, values = list.kind == VALUE_LIST ? list_at(run, list)->values.count : 1;
    for (int t = targets->child; t >= 0; t = node_at(run, t)->next) names++;
    if (list.kind != VALUE_LIST || names != values)
        return code_fail(run->error, node->place, false,
                         "%d name%s left of '=', but %d value%s right of it", names,
                         names == 1 ? "" : "s", values, values == 1 ? "" : "s");
    for (int t = targets->child, i = 0; t >= 0; t = node_at(run, t)->next, i++)
        TRY(assign(run, node_at(run, t), ((Value *)list_at(run, list)->values.items)[i]));
    return OK;
}

static Err run_statement(Run *run, int index) {
    const Node *node = node_at(run, index);
    Value value;
    if (node->kind == NODE_IMPORT) {
        if (strcmp(name_at(run, node->name), "numpy") != 0)
            return code_fail(run->error, node->place, false,
                             "only numpy can be imported, not '%.60s'", name_at(run, node->name));
        run->variables[node->alias] = (Value){.kind = VALUE_MODULE};
        return OK;
    }
    if (node->kind == NODE_UNPACK) return unpack(run, node);
    if (node->kind != NODE_ASSIGN) return evaluate(run, index, &value);
    TRY(evaluate(run, node->child, &value));
    return assign(run, node, value);
}

static void run_free(Run *run) {
    for (int i = 0; i < run->lists.count; i++)
        free(((ListObject *)run->lists.items)[i].values.items);
    Items *all[] = {&run->lists,    &run->curves, &run->indices,  &run->loops,
                    &run->profiles, &run->planes, &run->sketches, &run->extrudes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->items);
    free(run->variables);
}

static Err run_all(const Ast *ast, CadProgram *program, CodeError *error) {
    Run run = {.ast = ast, .error = error, .program = program, .curve_list = -1, .loop_list = -1};
    run.variables = calloc((size_t)ast->names.count + 1, sizeof *run.variables);
    CHECK(run.variables, "out of memory: %d names", ast->names.count);
    Err err = OK;
    Place last = {1, 1};
    for (int s = ast->first; s >= 0; s = ast->nodes[s].next) {
        last = ast->nodes[s].place;
        TRY_GOTO(err, run_statement(&run, s));
    }
    if (!program->count)
        err = code_fail(error, last, false, "the code has no add_extrude, so no solid");
done:
    run_free(&run);
    return err;
}

static Err run_block(CadProgram *program, const CodeBlock *block, CodeError *error) {
    Ast ast;
    *program = (CadProgram){0};
    Err err = ast_parse(&ast, block, error);
    if (err == OK) err = run_all(&ast, program, error);
    ast_free(&ast);
    if (err != OK) program_free(program);
    return err;
}

/* Pieces without this word are no program, whatever they say. */
static bool may_be_program(const CodeBlock *block) {
    static const char word[] = "add_extrude";
    return memmem(block->text, block->size, word, sizeof word - 1) != NULL;
}

/* The piece whose error is reported when none is a program: the longest between fences. */
static const CodeBlock *main_block(const CodeBlock *blocks, int count) {
    const CodeBlock *found = &blocks[0];
    for (int i = 1; i < count; i++)
        if (blocks[i].fenced > found->fenced ||
            (blocks[i].fenced == found->fenced && blocks[i].size > found->size))
            found = &blocks[i];
    return found;
}

/* The last piece that is a program; of several, an answer's last word is what it means. Where there
 * was a choice, error->message reports it. */
static bool run_last(CadProgram *program, const CodeBlock *blocks, int count, CodeError *error) {
    const CodeBlock *taken = NULL;
    int programs = 0, fenced = 0;
    for (int i = count - 1; i >= 0; i--) {
        CadProgram made;
        fenced += blocks[i].fenced;
        if (!may_be_program(&blocks[i]) || run_block(&made, &blocks[i], error) != OK) continue;
        if (!programs++) {
            *program = made;
            taken = &blocks[i];
        } else {
            program_free(&made);
        }
    }
    *error = (CodeError){0};
    err_clear();
    if (programs > 1)
        snprintf(error->message, sizeof error->message,
                 "%d blocks of code are programs; the last of them, from line %d, was taken",
                 programs, taken->place.line);
    else if (taken && fenced > 1)
        snprintf(error->message, sizeof error->message,
                 "of %d blocks of code the one from line %d is the program", fenced,
                 taken->place.line);
    return taken != NULL;
}

static Err parse_and_run(CadProgram *program, const char *text, size_t size, CodeError *error) {
    CodeBlock blocks[CODE_BLOCKS_MAX] = {{.text = "", .place = {1, 1}}};
    if (size > CODE_SIZE_MAX)
        return code_fail(error, blocks[0].place, true, "the code has %zu bytes; %d are the most",
                         size, CODE_SIZE_MAX);
    if (text_is_utf16(text, size))
        return code_fail(error, blocks[0].place, true,
                         "the code is UTF-16 text; it must be saved as UTF-8");
    int count = size ? code_blocks(blocks, text, size) : 0; /* no code may come as NULL */
    if (count > 1 && run_last(program, blocks, count, error)) return OK;
    return run_block(program, main_block(blocks, count), error);
}

Err code_parse(CadProgram *program, const char *text, size_t size, const char *name,
               CodeError *error) {
    CodeError own;
    if (!error) error = &own;
    *error = (CodeError){0};
    *program = (CadProgram){0};
    Err err = parse_and_run(program, text, size, error);
    return err == OK ? OK : err_prefix(err, "%s:%d:%d: ", name, error->line, error->column);
}
