/* The training loop. It reads from the top: one step is micro-batches of forward and backward, one
 * reduction, one update. */
#include "trainer/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/signals.h"
#include "eval/validate.h"
#include "trainer/best_weights.h"
#include "trainer/patience.h"
#include "trainer/schedule.h"
#include "trainer/train_internal.h"

enum { SKIPPED_STEPS_MAX = 10 }; /* in a row, before a run gives up */

/* ---- one step ---- */

static int micro_batch_event(const Trainer *t, int micro_batch, int event) {
    return EVENTS_A_MICRO_BATCH * (micro_batch - t->micro_first) + event;
}

static int step_event(const Trainer *t, int event) {
    return EVENTS_A_MICRO_BATCH * t->micro_most + event;
}

static Err run_micro_batch(Trainer *t, int micro_batch, MicroBatchReport *report,
                           RankReport *rank) {
    const Batch *batch;
    double at = clock_seconds();
    TRY(batches_next(t->batches, &batch));
    rank->data += clock_seconds() - at;
    TRY(reducer_begin(t->reducer, &model_params(t->model)->grads));
    exec_event_record(t->ex, micro_batch_event(t, micro_batch, EVENT_FORWARD));
    exec_range_begin(t->ex, "forward");
    TRY(model_forward(t->model, batch, true));
    model_loss_to(t->model, t->device_losses + (micro_batch - t->micro_first));
    exec_range_end(t->ex);
    exec_event_record(t->ex, micro_batch_event(t, micro_batch, EVENT_BACKWARD));
    exec_range_begin(t->ex, "backward");
    TRY(model_backward_into(t->model, reducer_hook(t->reducer, micro_batch)));
    reducer_fold(t->reducer, batch->micro_batch);
    exec_range_end(t->ex);
    exec_event_record(t->ex, micro_batch_event(t, micro_batch, EVENT_MICRO_BATCH_END));
    *report = (MicroBatchReport){.labels = batch->labels,
                                 .tokens = batch->tokens,
                                 .samples = batch->samples,
                                 .overlong = batch->overlong,
                                 .overlong_rows = batch->overlong_rows,
                                 .flops = model_flops(t->model, batch, true)};
    buf_format(&t->micro_batch_samples, "%d:", batch->micro_batch);
    for (int i = 0; i < batch->samples; i++)
        buf_format(&t->micro_batch_samples, " %s", batch->sample_ids[i]);
    buf_text(&t->micro_batch_samples, "\n");
    return OK;
}

/* Where a micro-batch of the step lies in what ranks have gathered, [ranks · micro_most]. */
static int gathered_at(const Trainer *t, int micro_batch) {
    int ranks = comm_size(t->comm), all = t->state.micro_batches, first, end;
    int rank = (int)(((int64_t)(micro_batch + 1) * ranks - 1) / all); /* the last to begin by it */
    reducer_micro_batches(all, rank, ranks, &first, &end);
    return rank * t->micro_most + micro_batch - first;
}

/* All micro-batches of this rank are on their way; what every rank's micro-batches are made of. */
static Err run_micro_batches(Trainer *t, MicroBatchReport *total, RankReport *rank) {
    MicroBatchReport *own = calloc((size_t)t->micro_most, sizeof *own);
    CHECK(own, "out of memory: %d micro-batches", t->micro_most);
    *rank = (RankReport){0};
    t->micro_batch_samples.size = 0;
    Err err = OK;
    for (int micro_batch = t->micro_first; micro_batch < t->micro_end && err == OK; micro_batch++)
        err = run_micro_batch(t, micro_batch, &own[micro_batch - t->micro_first], rank);
    err = comm_agree(t->comm, err);
    if (err == OK)
        err = comm_gather_all(t->comm, t->reports, own, (size_t)t->micro_most * sizeof *own);
    free(own);
    TRY(err);
    *total = (MicroBatchReport){0};
    for (int micro_batch = 0; micro_batch < t->state.micro_batches; micro_batch++) {
        const MicroBatchReport *s = &t->reports[gathered_at(t, micro_batch)];
        total->labels += s->labels;
        total->tokens += s->tokens;
        total->samples += s->samples;
        total->overlong += s->overlong;
        if (s->overlong_rows > total->overlong_rows) total->overlong_rows = s->overlong_rows;
        total->flops += s->flops;
    }
    return OK;
}

/* Names the samples of this rank's micro-batches whose loss is not finite. */
static void name_bad_samples(const Trainer *t, const LossSum *own) {
    const char *line = buf_cstr(&t->micro_batch_samples);
    for (int i = 0; i < t->micro_end - t->micro_first; i++) {
        int length = (int)strcspn(line, "\n");
        if (!isfinite(own[i].loss))
            log_warn("step %lld, micro-batch %.*s: the loss is %g", (long long)t->state.step + 1,
                     length, line, own[i].loss);
        line += length + (line[length] == '\n');
    }
}

/* The step is over: the one place that waits for the device. Losses of all micro-batches, in their
 * order, and how the update went. */
static Err collect_step(Trainer *t, RankReport *rank, UpdateState *update, LossSum *total) {
    LossSum *own = calloc((size_t)t->micro_most, sizeof *own);
    CHECK(own, "out of memory: %d micro-batches", t->micro_most);
    Err err = reducer_wait(t->reducer);
    if (err != OK)
        err = err_prefix(err, "step %lld: ", (long long)t->state.step + 1);
    else
        exec_download(t->ex, own, t->device_losses, (size_t)t->micro_most * sizeof *own);
    if (err == OK) err = optim_state(&t->optim, update);
    for (int micro_batch = t->micro_first; micro_batch < t->micro_end && err == OK; micro_batch++) {
        int at = micro_batch_event(t, micro_batch, EVENT_FORWARD);
        rank->forward += exec_event_seconds(t->ex, at, at + EVENT_BACKWARD);
        rank->backward +=
            exec_event_seconds(t->ex, at + EVENT_BACKWARD, at + EVENT_MICRO_BATCH_END);
    }
    name_bad_samples(t, own);
    rank->communication = reducer_seconds(t->reducer);
    if (err == OK && reducer_overlaps(t->reducer) && t->micro_first < t->micro_end)
        rank->communication =
            exec_event_seconds(t->ex, micro_batch_event(t, t->micro_end - 1, EVENT_MICRO_BATCH_END),
                               step_event(t, EVENT_REDUCED));
    rank->stop = signals_pending();
    err = comm_agree(t->comm, err);
    if (err == OK)
        err = comm_gather_all(t->comm, t->losses, own, (size_t)t->micro_most * sizeof *own);
    if (err == OK) err = comm_gather_all(t->comm, t->rank_reports, rank, sizeof *rank);
    free(own);
    TRY(err);
    *total = (LossSum){0};
    for (int micro_batch = 0; micro_batch < t->state.micro_batches; micro_batch++) {
        total->loss += t->losses[gathered_at(t, micro_batch)].loss;
        total->hits += t->losses[gathered_at(t, micro_batch)].hits;
    }
    for (int r = 0; r < comm_size(t->comm); r++)
        t->stopping = t->stopping || t->rank_reports[r].stop;
    return OK;
}

/* Never a NaN with a sign, which would be printed. */
static double share(double sum, int64_t count) {
    return count && !isnan(sum) ? sum / (double)count : (double)NAN;
}

static int slowest(const Trainer *t, StepSeconds *seconds) {
    int worst = 0;
    double most = -1;
    for (int r = 0; r < comm_size(t->comm); r++) {
        const RankReport *k = &t->rank_reports[r];
        seconds->data = fmax(seconds->data, k->data);
        seconds->forward = fmax(seconds->forward, k->forward);
        seconds->backward = fmax(seconds->backward, k->backward);
        seconds->communication = fmax(seconds->communication, k->communication);
        double busy = k->data + k->forward + k->backward;
        if (busy > most) {
            most = busy;
            worst = r;
        }
    }
    return worst;
}

static void fill_ledger(Trainer *t, StepMetrics *m) {
    m->dataset_count = t->data.count;
    uint64_t counts[MIXER_DATASETS_MAX] = {0};
    for (int r = 0; r < comm_size(t->comm); r++)
        for (int i = 0; i < t->data.count; i++)
            if (t->rank_reports[r].dataset_samples[i] > counts[i])
                counts[i] = t->rank_reports[r].dataset_samples[i];
    t->state.dataset_count = t->data.count;
    for (int i = 0; i < t->data.count; i++) {
        m->dataset_names[i] = t->data.sets[i].config->name;
        m->dataset_samples[i] = counts[i];
        t->state.dataset_samples[i] = (int64_t)counts[i];
    }
}

static Err note_step(Trainer *t, const MicroBatchReport *total, const LossSum *losses,
                     const UpdateState *update, double lr, double began) {
    StepMetrics m = {.step = t->state.step,
                     .loss = t->loss,
                     .lr = lr,
                     .grad_norm = update->grad_norm,
                     .samples = t->state.samples,
                     .labels = total->labels,
                     .overlong = total->overlong,
                     .skipped = !update->stepped,
                     .memory_bytes = train_memory(t)};
    m.seconds.whole = clock_seconds() - began;
    m.seconds.optimiser =
        exec_event_seconds(t->ex, step_event(t, EVENT_REDUCED), step_event(t, EVENT_UPDATED));
    m.slowest_rank = slowest(t, &m.seconds);
    double epoch_samples = t->config->samples_per_epoch ? (double)t->config->samples_per_epoch
                                                        : (double)t->data.samples;
    m.epoch = (double)t->state.samples / epoch_samples;
    m.accuracy = share((double)losses->hits, total->labels);
    m.tokens_per_s = (double)total->tokens / m.seconds.whole;
    m.samples_per_s = (double)total->samples / m.seconds.whole;
    m.mfu = total->flops / m.seconds.whole / t->peak_flops;
    if (t->state.step > t->first_step + 1) { /* the first step also builds what later ones reuse */
        t->trained_seconds += m.seconds.whole;
        t->trained_flops += total->flops;
        t->trained_samples += total->samples;
        t->trained_tokens += total->tokens;
    }
    fill_ledger(t, &m);
    if (comm_rank(t->comm) != 0) return OK;
    char note[96];
    snprintf(note, sizeof note, "loss %.4f, %.3g samples/s, mfu %.0f %% of %.3g TFLOP/s", t->loss,
             m.samples_per_s, 100 * m.mfu, 1e-12 * t->peak_flops);
    progress_set(&t->progress, t->state.step, note);
    return metrics_step(&t->metrics, &m);
}

/* A run whose numbers stay broken ends. While the loss scale of fp16 comes down, skipped steps are
 * its way of searching. */
static Err check_update(Trainer *t, const UpdateState *update) {
    t->state.skipped += !update->stepped;
    t->skipped_in_a_row = update->stepped ? 0 : t->skipped_in_a_row + 1;
    if (update->stepped) return OK;
    bool searching = t->optim.scaled && !optim_scale_is_least(&t->optim, update);
    if (comm_rank(t->comm) == 0 && searching)
        log_info(
            "step %lld: gradients overflow fp16; the update is skipped, the loss scale is %g now",
            (long long)t->state.step, (double)update->loss_scale);
    else if (comm_rank(t->comm) == 0)
        log_warn("step %lld: the gradient's norm is %g; the update is skipped",
                 (long long)t->state.step, fabs(update->grad_norm));
    REQUIRE(searching || t->skipped_in_a_row < SKIPPED_STEPS_MAX, ERR_INPUT,
            "%d steps in a row had numbers that are not finite: lower training.learning_rate, or "
            "look at the samples named above",
            t->skipped_in_a_row);
    return OK;
}

/* Of the first step that has samples over training.max_length; the others are counted. */
static void count_overlong(Trainer *t, const MicroBatchReport *total) {
    OverlongCount step = {total->samples, total->overlong, total->overlong_rows};
    bool first = step.overlong && !t->overlong.overlong;
    overlong_add(&t->overlong, step);
    if (!first || comm_rank(t->comm) != 0) return;
    Buf text = {0};
    overlong_text(&text, step, &t->options, true);
    log_warn("step %lld: %s. Raise training.max_length, or choose another policy. Those of later "
             "steps are counted in metrics.jsonl (overlong) and at the end",
             (long long)t->state.step, buf_cstr(&text));
    buf_free(&text);
}

/* Of all steps of this process. */
static void tell_overlong(const Trainer *t) {
    if (!t->overlong.overlong || comm_rank(t->comm) != 0) return;
    Buf text = {0};
    overlong_text(&text, t->overlong, &t->options, true);
    log_warn("steps %lld to %lld: %s", (long long)t->first_step + 1, (long long)t->state.step,
             buf_cstr(&text));
    buf_free(&text);
}

/* Of a GPU: products that the library could not do are slow, and nothing else shows it. */
static void tell_products(const Trainer *t, bool at_end) {
    ProductCounts c = exec_product_counts(t->ex);
    if (comm_rank(t->comm) != 0 || !c.products) return;
    if (!at_end && c.plain)
        log_warn(
            "%lld of %lld products so far were done by a plain kernel, slowly: cuBLASLt has no "
            "algorithm for their sizes (widths that are multiples of 8 have one)",
            (long long)c.plain, (long long)c.products);
    if (at_end)
        log_info("%lld products, planned %lld times; %lld with their epilogue apart, %lld by the "
                 "plain kernel, %lld algorithms refused",
                 (long long)c.products, (long long)c.planned, (long long)c.unfused,
                 (long long)c.plain, (long long)c.refused);
}

static Err train_step(Trainer *t) {
    double began = clock_seconds();
    MicroBatchReport total = {0};
    LossSum losses = {0};
    RankReport rank;
    UpdateState update = {0};
    TRY(run_micro_batches(t, &total, &rank));
    float *sum;
    TRY(reducer_finish(t->reducer, &sum));
    exec_event_record(t->ex, step_event(t, EVENT_REDUCED));
    double lr = schedule_lr(&t->config->training, t->state.step, t->steps);
    exec_range_begin(t->ex, "update");
    TRY(optim_step(&t->optim, sum, total.labels, lr));
    exec_range_end(t->ex);
    exec_event_record(t->ex, step_event(t, EVENT_UPDATED));
    if (t->batches) batches_ledger(t->batches, t->state.step + 1, rank.dataset_samples);
    TRY(collect_step(t, &rank, &update, &losses));

    t->state.step++;
    t->state.samples += total.samples;
    t->state.update = update;
    t->loss = share(losses.loss, total.labels);
    count_overlong(t, &total);
    if (t->state.step == t->first_step + 1) tell_products(t, false);
    TRY(check_update(t, &update));
    return comm_agree(t->comm, note_step(t, &total, &losses, &update, lr, began));
}

/* ---- between steps ---- */

/* Validations walk through the same samples: what one leaves out, all do. */
static void tell_overlong_validation(Trainer *t, const Validation *v) {
    if (!v->overlong.overlong || t->reported_validation_overlong) return;
    t->reported_validation_overlong = true;
    if (comm_rank(t->comm) != 0) return;
    Buf text = {0};
    overlong_text(&text, v->overlong, &t->options, false);
    log_warn("validation after step %lld: %s, here and in every later one%s",
             (long long)t->state.step, buf_cstr(&text),
             v->samples ? "" : ": no validation loss. Raise training.max_length");
    buf_free(&text);
}

static Err run_validation(Trainer *t) {
    const Dataset *dataset = t->data.val ? t->data.val : t->data.sets[0].dataset;
    size_t *indices, count;
    TRY(split_indices(dataset, SPLIT_VAL, (size_t)t->config->training.eval_samples, &indices,
                      &count));
    Validation v = {.loss = NAN};
    Err err =
        count ? validate(t->comm, t->model, &t->options, dataset, indices, NULL, count, &v) : OK;
    free(indices);
    if (err == ERR_STOPPED) { /* the checkpoint that follows is what matters */
        err_clear();
        t->stopping = true;
        return OK;
    }
    TRY(err);
    t->state.validated_step = t->state.step;
    tell_overlong_validation(t, &v);
    if (!v.samples) return OK;
    t->val_loss = t->state.val_loss = v.loss;
    patience_count(&t->state, v.loss);
    if (t->config->training.load_best_model_at_end && t->state.best_step == t->state.step)
        TRY(best_weights_keep(t->comm, t->checkpoints, &t->optim, t->state.step));
    log_info("step %lld: validation loss %.4f, %.1f %% of labels right (%zu of %zu samples)",
             (long long)t->state.step, v.loss, 100 * v.accuracy, v.samples, count);
    return comm_agree(t->comm, comm_rank(t->comm) == 0
                                   ? metrics_validation(&t->metrics, t->state.step, v.loss,
                                                        v.accuracy, v.overlong.overlong)
                                   : OK);
}

static Err save(Trainer *t) {
    if (t->saved_step == t->state.step) return OK;
    TRY(comm_agree(t->comm, t->folder_lock ? folder_lock_check(t->folder_lock) : OK));
    Config *described = train_describe_config(t);
    Err err =
        checkpoint_save(t->comm, t->checkpoints, described, &t->base.lineage, t->tokenizer_file,
                        &t->optim, &t->state, (int)t->config->training.save_total_limit);
    free(described);
    TRY(err);
    t->saved_step = t->state.step;
    return comm_agree(t->comm, comm_rank(t->comm) == 0
                                   ? best_weights_prune(t->checkpoints, t->state.best_step)
                                   : OK);
}

/* A run that is over ends with the weights of its best validation, if it is told to. From then on
 * they are those of its last step. */
static Err settle_for_best(Trainer *t) {
    bool restored;
    int64_t best = t->state.best_step;
    if (!t->config->training.load_best_model_at_end || best < 0 || best == t->state.step) return OK;
    TRY(best_weights_restore(t->comm, t->checkpoints, &t->optim, best, &restored));
    if (!restored) return OK;
    log_info("the weights of step %lld are kept: its validation loss %.4f was the best, that of "
             "step %lld is %.4f (training.load_best_model_at_end)",
             (long long)best, t->state.best_val_loss, (long long)t->state.step, t->state.val_loss);
    t->val_loss = t->state.val_loss = t->state.best_val_loss;
    t->state.best_step = t->state.step;
    return best_weights_keep(t->comm, t->checkpoints, &t->optim, t->state.step);
}

static bool is_overdone(const Trainer *t) {
    return patience_is_over(&t->state, t->config->training.early_stopping_patience);
}

static bool due(const Trainer *t, int64_t every) {
    return t->state.step > 0 &&
           (t->state.step >= t->steps || (every && t->state.step % every == 0));
}

/* The start is a candidate too: what training starts from may be better than all that follows. */
static bool validation_due(const Trainer *t) {
    const TrainingConfig *c = &t->config->training;
    if (c->load_best_model_at_end && t->state.step == 0) return t->state.best_step < 0;
    return due(t, c->eval_steps) && t->state.validated_step != t->state.step;
}

static Err loop(Trainer *t) {
    const TrainingConfig *c = &t->config->training;
    for (;;) {
        /* A run may have been stopped between a step and its validation: then this comes first. */
        if (validation_due(t) && !t->stopping) TRY(run_validation(t));
        bool over = t->state.step >= t->steps || is_overdone(t);
        if (over && !t->stopping) TRY(settle_for_best(t));
        if (t->stopping || is_overdone(t) || due(t, c->save_steps)) TRY(save(t));
        if (t->stopping || t->state.step >= t->steps) return OK;
        if (is_overdone(t)) {
            log_info(
                "stopping early after step %lld: %lld validations in a row were worse than the "
                "best, %.4f (training.early_stopping_patience)",
                (long long)t->state.step, (long long)t->state.worse, t->state.best_val_loss);
            return OK;
        }
        TRY(train_step(t));
    }
}

static void fill_result(const Trainer *t, TrainResult *r) {
    double seconds = t->trained_seconds > 0 ? t->trained_seconds : (double)NAN;
    *r = (TrainResult){.steps = t->state.step,
                       .new_steps = t->state.step - t->first_step,
                       .samples = t->state.samples,
                       .loss = t->loss,
                       .val_loss = t->val_loss,
                       .samples_per_s = (double)t->trained_samples / seconds,
                       .tokens_per_s = (double)t->trained_tokens / seconds,
                       .mfu = t->trained_flops / seconds / t->peak_flops,
                       .peak_flops = t->peak_flops,
                       .datasheet_flops = t->datasheet_flops,
                       .seconds = clock_seconds() - t->began,
                       .ranks = comm_size(t->comm)};
    char name[CHECKPOINT_NAME];
    checkpoint_name(name, t->state.step);
    IGNORE(path_join(r->checkpoint, t->checkpoints, name));
}

static void tear_down(Trainer *t) {
    IGNORE(metrics_close(&t->metrics));
    batches_close(&t->batches);
    reducer_close(&t->reducer);
    optim_close(&t->optim);
    model_close(&t->model);
    data_close(&t->data);
    tokenizer_close(&t->tokenizer);
    if (t->ex) exec_free(t->ex, t->device_losses, 0);
    exec_close(&t->ex);
    free(t->reports);
    free(t->losses);
    free(t->rank_reports);
    buf_free(&t->micro_batch_samples);
    folder_unlock(&t->folder_lock);
}

/* Every rank measures at once, as they will run. */
static Err measure_peak(Trainer *t) {
    typedef struct Peak {
        double measured, datasheet;
    } Peak;
    Peak own = {exec_peak_flops(t->ex), exec_datasheet_flops(t->ex)},
         *all = calloc((size_t)comm_size(t->comm), sizeof *all);
    CHECK(all, "out of memory: %d ranks", comm_size(t->comm));
    Err err = comm_gather_all(t->comm, all, &own, sizeof own);
    bool known = err == OK;
    for (int r = 0; r < comm_size(t->comm) && err == OK; r++) {
        t->peak_flops += all[r].measured;
        t->datasheet_flops += all[r].datasheet;
        known = known && all[r].datasheet > 0;
    }
    if (!known) t->datasheet_flops = 0;
    free(all);
    return err;
}

/* From the first step to the last of a run that is set up. */
static Err go(Trainer *t, TrainResult *result) {
    bool first = comm_rank(t->comm) == 0;
    TRY(reducer_open(&t->reducer, t->comm, t->ex, t->optim.count, t->state.micro_batches,
                     t->config->deterministic));
    TRY(measure_peak(t));
    train_describe(t);
    if (first) progress_open(&t->progress, "training", "steps", t->state.step, t->steps);
    Err err = loop(t);
    if (first) progress_close(&t->progress, NULL);
    tell_overlong(t);
    tell_products(t, true);
    fill_result(t, result);
    TRY(err);
    REQUIRE(!t->stopping || t->state.step >= t->steps, ERR_STOPPED,
            "stopped by a signal after step %lld, saved; run it again to go on",
            (long long)t->state.step);
    return OK;
}

Err train_run(Comm *comm, const Config *config, bool fresh, const Json *versions,
              TrainResult *result) {
    Trainer *t = malloc(sizeof *t); /* it holds a whole config */
    CHECK(t, "out of memory: a run");
    *t = (Trainer){.comm = comm,
                   .config = config,
                   .val_loss = NAN,
                   .loss = NAN,
                   .began = clock_seconds(),
                   .saved_step = -1};
    signals_catch();
    comm_set_patience(comm, config->ddp_timeout);
    Err err = train_set_up(t, fresh, versions);
    if (err == OK) err = go(t, result);
    tear_down(t);
    signals_release();
    free(t);
    return err;
}
