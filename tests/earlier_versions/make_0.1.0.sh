#!/usr/bin/env bash
# Made 0.1.0.tar.xz, with commit 78a808d on PYTHONPATH: what that version wrote and later ones have to read.
# A narrow Inception v1 on the digits; of the training every step is 1e-20, so that all weights stay multiples
# of 1/16, which compress to 210 kB.
set -euo pipefail

python - <<'PYTHON'
import keras
import numpy as np

import inception_tf

x = np.linspace(-1, 1, 32 * 32 * 3, dtype="float32").reshape(1, 32, 32, 3)
for name in ("inception_v1", "googlenet"):
    model = inception_tf.create_model(name, classes=10, input_shape=(32, 32, 3), width_multiplier=0.0625)
    for number, weight in enumerate(model.trainable_weights):
        fans = np.sqrt(max(np.prod(weight.shape[:-1]), 1))
        values = np.random.default_rng(number).normal(0, 1.4 / fans, weight.shape)
        weight.assign((np.floor(values * 8) + 0.5) / 8)
    model.save_weights(f"{name}.weights.h5")
    if name == "googlenet":
        model.save("googlenet.keras")
    np.save(f"{name}.npy", model.predict(x, verbose=0))
PYTHON
rm googlenet.weights.h5

train() {
    python -m inception_tf train --model inception_v1 --data digits --recipe digits --precision float32 --out "$1" \
        --set training.epochs=3 --set model.width_multiplier=0.0625 --set model.size=32 \
        --set model.weights=inception_v1.weights.h5 --set model.new_head=false \
        --set optimizer.name=sgd --set optimizer.momentum=0 --set optimizer.nesterov=false \
        --set optimizer.learning_rate=1e-20 --set optimizer.ema=0.9
}
train finished
train unfinished & # Ctrl-C in the second epoch
until [ -d unfinished/checkpoints/step-00000044 ]; do sleep 0.2; done
sleep 0.5
pkill -INT -f "out unfinished"
wait || true
cp -r unfinished resumed
python -m inception_tf train --out resumed --resume
python -m inception_tf export finished --precision bfloat16 --warm-up 1 --to saved

python - <<'PYTHON'
import keras
import numpy as np

import inception_tf.layers

x = np.linspace(-1, 1, 32 * 32 * 3, dtype="float32").reshape(1, 32, 32, 3)
for run in ("finished", "resumed"):
    np.save(f"{run}.npy", keras.models.load_model(f"{run}/model.keras").predict(x, verbose=0))
PYTHON
rm -r resumed ./*/tensorboard finished/checkpoints finished/curves.png unfinished/checkpoints/step-00000044
tar -c --sort=name --owner=0 --group=0 --mtime=2026-01-01 --exclude=0.1.0.tar.xz . | xz -9e >0.1.0.tar.xz
