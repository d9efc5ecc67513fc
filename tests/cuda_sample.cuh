// Written by cuda_sample.py: formulas of a pool, as the CuPy backend compiles them.

DEVICE float loss_train(const float* raw, const int64 ld, const float* target, const int64 ld_target, const int64 n_raw, const float factor, float* dz) {
    const float t1 = (float)(n_raw);
    const float t3 = raw[0 * ld];
    const float t4 = target[0 * ld_target];
    const float t5 = t3 - t4;
    const float t6 = fabsf(t5);
    const bool t7 = t6 <= 1.0e+00f;
    const float t8 = t5 * t5;
    const float t9 = 5.0e-01f * t8;
    const float t10 = t6 - 5.0e-01f;
    const float t11 = 1.0e+00f * t10;
    const float t12 = t7 ? t9 : t11;
    float best2 = t12;
    for (int64 o14 = 1; o14 < n_raw; ++o14) {
        const float t15 = raw[o14 * ld];
        const float t16 = target[o14 * ld_target];
        const float t17 = t15 - t16;
        const float t18 = fabsf(t17);
        const bool t19 = t18 <= 1.0e+00f;
        const float t20 = t17 * t17;
        const float t21 = 5.0e-01f * t20;
        const float t22 = t18 - 5.0e-01f;
        const float t23 = 1.0e+00f * t22;
        const float t24 = t19 ? t21 : t23;
        best2 = best2 + t24;
    }
    const float t25 = (float)(n_raw);
    const float t26 = best2 / t25;
    for (int64 o27 = 0; o27 < n_raw; ++o27) {
        const float t28 = raw[o27 * ld];
        const float t29 = target[o27 * ld_target];
        const float t30 = t28 - t29;
        const bool t31 = t30 > 1.0e+00f;
        const bool t32 = t30 < (-1.0e+00f);
        const float t33 = t32 ? (-1.0e+00f) : t30;
        const float t34 = t31 ? 1.0e+00f : t33;
        const float t35 = t34 / t1;
        dz[o27 * ld] = t35 * factor;
    }
    return t26;
}

DEVICE float loss_evaluate(const float* raw, const int64 ld, const float* target, const int64 ld_target, const int64 n_raw, float& score) {
    const float t2 = raw[0 * ld];
    const float t3 = target[0 * ld_target];
    const float t4 = t2 - t3;
    const float t5 = fabsf(t4);
    const bool t6 = t5 <= 1.0e+00f;
    const float t7 = t4 * t4;
    const float t8 = 5.0e-01f * t7;
    const float t9 = t5 - 5.0e-01f;
    const float t10 = 1.0e+00f * t9;
    const float t11 = t6 ? t8 : t10;
    float best1 = t11;
    for (int64 o13 = 1; o13 < n_raw; ++o13) {
        const float t14 = raw[o13 * ld];
        const float t15 = target[o13 * ld_target];
        const float t16 = t14 - t15;
        const float t17 = fabsf(t16);
        const bool t18 = t17 <= 1.0e+00f;
        const float t19 = t16 * t16;
        const float t20 = 5.0e-01f * t19;
        const float t21 = t17 - 5.0e-01f;
        const float t22 = 1.0e+00f * t21;
        const float t23 = t18 ? t20 : t22;
        best1 = best1 + t23;
    }
    const float t24 = (float)(n_raw);
    const float t25 = best1 / t24;
    const float t27 = raw[0 * ld];
    const float t28 = target[0 * ld_target];
    const float t29 = t27 - t28;
    const float t30 = fabsf(t29);
    float best26 = t30;
    for (int64 o32 = 1; o32 < n_raw; ++o32) {
        const float t33 = raw[o32 * ld];
        const float t34 = target[o32 * ld_target];
        const float t35 = t33 - t34;
        const float t36 = fabsf(t35);
        best26 = best26 + t36;
    }
    const float t37 = (float)(n_raw);
    const float t38 = best26 / t37;
    score = t38;
    return t25;
}

struct activation_gelu {
DEVICE static void at(const float z, float& a, float& d) {
    const float t1 = fabsf(z);
    const bool t2 = t1 > 3.8e+01f;
    const float t3 = t2 ? 3.8e+01f : t1;
    const float t4 = t3 * t3;
    const float t5 = (-5.0e-01f) * t4;
    const bool t6 = t5 > 8.8e+01f;
    const float t7 = t6 ? 8.8e+01f : t5;
    const bool t8 = t7 < (-8.7e+01f);
    const float t9 = t8 ? (-8.7e+01f) : t7;
    const float t10 = fmaf(t9, 1.442695e+00f, 1.2582912e+07f);
    const float t11 = t10 - 1.2582912e+07f;
    const float t12 = fmaf(t11, (-6.931472e-01f), t9);
    const float t13 = fmaf(t12, 1.39264e-03f, 8.363353e-03f);
    const float t14 = fmaf(t12, t13, 4.1666552e-02f);
    const float t15 = fmaf(t12, t14, 1.6666576e-01f);
    const float t16 = fmaf(t12, t15, 5.0e-01f);
    const float t17 = t12 * t12;
    const float t18 = fmaf(t17, t16, t12);
    const int t19 = bits_of(t10);
    const int t20 = (int)((unsigned)t19 + (unsigned)(int)0x7fu);
    const int t21 = (int)((unsigned)t20 << (unsigned)(int)0x17u);
    const float t22 = number_of_bits(t21);
    const bool t23 = t5 < (-8.7e+01f);
    const float t24 = fmaf(t18, t22, t22);
    const float t25 = t23 ? 0.0e+00f : t24;
    const float t26 = 5.0e-01f * t25;
    const float t27 = 7.0710677e-01f * t3;
    const float t28 = t27 + 2.0e+00f;
    const int t29 = bits_of(t28);
    const int t30 = (int)((unsigned)(int)0x7ef311c3u - (unsigned)t29);
    const float t31 = number_of_bits(t30);
    const float t32 = -t28;
    const float t33 = fmaf(t32, t31, 1.0e+00f);
    const float t34 = fmaf(t33, t33, t33);
    const float t35 = fmaf(t31, t34, t31);
    const float t36 = -t28;
    const float t37 = fmaf(t36, t35, 1.0e+00f);
    const float t38 = fmaf(t37, t37, t37);
    const float t39 = fmaf(t35, t38, t35);
    const float t40 = 2.0e+00f * t39;
    const float t41 = fmaf(t40, (-5.9338126e-02f), 2.8597966e-01f);
    const float t42 = fmaf(t40, t41, (-4.9027604e-01f));
    const float t43 = fmaf(t40, t42, 2.817422e-01f);
    const float t44 = fmaf(t40, t43, (-2.9231098e-02f));
    const float t45 = fmaf(t40, t44, 2.0380226e-01f);
    const float t46 = fmaf(t40, t45, 2.4282409e-01f);
    const float t47 = fmaf(t40, t46, 2.8241262e-01f);
    const float t48 = fmaf(t40, t47, 2.820844e-01f);
    const float t49 = t40 * t48;
    const float t50 = t26 * t49;
    const bool t51 = z > 0.0e+00f;
    const float t52 = 1.0e+00f - t50;
    const float t53 = t51 ? t52 : t50;
    const float t54 = 3.989423e-01f * t25;
    const float t55 = z * t53;
    const bool t56 = z > 0.0e+00f;
    const float t57 = -t3;
    const float t58 = t56 ? t3 : t57;
    const float t59 = t58 * t54;
    const float t60 = t53 + t59;
    a = t55;
    d = t60;
}
};

struct activation_tanh {
DEVICE static void at(const float z, float& a, float& d) {
    const bool t1 = z > 9.1e+00f;
    const float t2 = t1 ? 9.1e+00f : z;
    const bool t3 = t2 < (-9.1e+00f);
    const float t4 = t3 ? (-9.1e+00f) : t2;
    const float t5 = 2.0e+00f * t4;
    const float t6 = fmaf(t5, 1.442695e+00f, 1.2582912e+07f);
    const float t7 = t6 - 1.2582912e+07f;
    const float t8 = fmaf(t7, (-6.931472e-01f), t5);
    const float t9 = fmaf(t8, 1.39264e-03f, 8.363353e-03f);
    const float t10 = fmaf(t8, t9, 4.1666552e-02f);
    const float t11 = fmaf(t8, t10, 1.6666576e-01f);
    const float t12 = fmaf(t8, t11, 5.0e-01f);
    const float t13 = t8 * t8;
    const float t14 = fmaf(t13, t12, t8);
    const int t15 = bits_of(t6);
    const int t16 = (int)((unsigned)t15 + (unsigned)(int)0x7fu);
    const int t17 = (int)((unsigned)t16 << (unsigned)(int)0x17u);
    const float t18 = number_of_bits(t17);
    const float t19 = t18 - 1.0e+00f;
    const float t20 = fmaf(t14, t18, t19);
    const float t21 = t20 + 2.0e+00f;
    const int t22 = bits_of(t21);
    const int t23 = (int)((unsigned)(int)0x7ef311c3u - (unsigned)t22);
    const float t24 = number_of_bits(t23);
    const float t25 = -t21;
    const float t26 = fmaf(t25, t24, 1.0e+00f);
    const float t27 = fmaf(t26, t26, t26);
    const float t28 = fmaf(t24, t27, t24);
    const float t29 = -t21;
    const float t30 = fmaf(t29, t28, 1.0e+00f);
    const float t31 = fmaf(t30, t30, t30);
    const float t32 = fmaf(t28, t31, t28);
    const float t33 = t20 * t32;
    const float t34 = -t33;
    const float t35 = fmaf(t34, t33, 1.0e+00f);
    a = t33;
    d = t35;
}
};

#define EACH_ACTIVATION(CASE) CASE(6, gelu) CASE(2, tanh)

struct rule_adam {
    static DEVICE constexpr int n_slots() { return 2; }
DEVICE static void scalars(const double* inputs, const int64 step, float* numbers) {
    const double t1 = power(inputs[3], (uint64)step);
    const double t2 = 1.0e+00 - t1;
    const double t3 = inputs[0] / t2;
    const double t4 = power(inputs[4], (uint64)step);
    const double t5 = 1.0e+00 - t4;
    const double t6 = sqrt(t5);
    const double t7 = 1.0e+00 / t6;
    const double t8 = 1.0e+00 - inputs[3];
    const double t9 = 1.0e+00 - inputs[4];
    const double t10 = inputs[0] * inputs[6];
    const double t11 = 1.0e+00 - t10;
    numbers[0] = (float)t3;
    numbers[1] = (float)t7;
    numbers[2] = (float)inputs[3];
    numbers[3] = (float)inputs[4];
    numbers[4] = (float)t8;
    numbers[5] = (float)t9;
    numbers[6] = (float)inputs[5];
    numbers[7] = (float)inputs[6];
    numbers[8] = (float)t11;
}
DEVICE static void update(float& w, const float g, float* slot, const float* numbers) {
    const float t1 = slot[0];
    const float t2 = slot[1];
    const float t3 = numbers[0];
    const float t4 = numbers[1];
    const float t5 = numbers[2];
    const float t6 = numbers[3];
    const float t7 = numbers[4];
    const float t8 = numbers[5];
    const float t9 = numbers[6];
    const float t10 = numbers[7];
    const float t11 = numbers[8];
    const float t12 = w;
    const float t13 = fmaf(t10, t12, g);
    const float t14 = t7 * t13;
    const float t15 = fmaf(t5, t1, t14);
    const float t16 = t13 * t13;
    const float t17 = t8 * t16;
    const float t18 = fmaf(t6, t2, t17);
    const float t19 = t3 * t15;
    const float t20 = sqrtf(t18);
    const float t21 = fmaf(t20, t4, t9);
    const float t22 = t19 / t21;
    const float t23 = t12 - t22;
    w = t23;
    slot[0] = t15;
    slot[1] = t18;
}
};

struct rule_sgd {
    static DEVICE constexpr int n_slots() { return 0; }
DEVICE static void scalars(const double* inputs, const int64 step, float* numbers) {
    numbers[0] = (float)inputs[0];
    numbers[1] = (float)inputs[6];
}
DEVICE static void update(float& w, const float g, float* slot, const float* numbers) {
    const float t1 = numbers[0];
    const float t2 = numbers[1];
    const float t3 = w;
    const float t4 = -t1;
    const float t5 = fmaf(t2, t3, g);
    const float t6 = fmaf(t4, t5, t3);
    w = t6;
}
};

DEVICE double schedule_cosine(const double* options, const int64 epoch, const int64 minibatch, const int64 minibatches, const int64 fit_epochs) {
    const double t1 = (double)(minibatches);
    const double t2 = (double)(epoch);
    const double t3 = (double)(minibatch);
    const double t4 = t3 / t1;
    const double t5 = t2 + t4;
    const bool t6 = t5 < options[18];
    const double t7 = t5 - options[18];
    const double t8 = t6 ? 0.0e+00 : t7;
    const bool t9 = options[11] > 0.0e+00;
    const double t10 = (double)(fit_epochs);
    const double t11 = t10 - options[18];
    const double t12 = t9 ? options[11] : t11;
    const double t13 = t6 ? 1.0e+00 : t12;
    const bool t14 = t13 > 0.0e+00;
    const double t15 = t14 ? t13 : 1.0e+00;
    const double t16 = t8 / t15;
    const double t17 = t14 ? t16 : 1.0e+00;
    const bool t18 = t17 < 1.0e+00;
    const double t19 = t18 ? t17 : 1.0e+00;
    const double t20 = t17 + 6.755399441055744e+15;
    const double t21 = t20 - 6.755399441055744e+15;
    const bool t22 = t21 > t17;
    const double t23 = t21 - 1.0e+00;
    const double t24 = t22 ? t23 : t21;
    const double t25 = t17 - t24;
    const double t26 = 1.0e+00 - options[15];
    const double t27 = 5.0e-01 * t25;
    const double t28 = t27 + 5.0e-01;
    const double t29 = t28 + 6.755399441055744e+15;
    const double t30 = t29 - 6.755399441055744e+15;
    const bool t31 = t30 > t28;
    const double t32 = t30 - 1.0e+00;
    const double t33 = t31 ? t32 : t30;
    const double t34 = t27 - t33;
    const double t35 = fabs(t34);
    const bool t36 = t35 > 2.5e-01;
    const double t37 = 5.0e-01 - t35;
    const double t38 = t36 ? t37 : t35;
    const double t39 = t38 * t38;
    const double t40 = fma(t39, (-3.229910672070975e-04), 3.7798342006800365e-03);
    const double t41 = fma(t39, t40, (-3.638284114254564e-02));
    const double t42 = fma(t39, t41, 2.82005968455791e-01);
    const double t43 = fma(t39, t42, (-1.7143907110886711e+00));
    const double t44 = fma(t39, t43, 7.903536371318465e+00);
    const double t45 = fma(t39, t44, (-2.6426256783374388e+01));
    const double t46 = fma(t39, t45, 6.024464137187664e+01);
    const double t47 = fma(t39, t46, (-8.545681720669371e+01));
    const double t48 = fma(t39, t47, 6.493939402266828e+01);
    const double t49 = fma(t39, t48, (-1.9739208802178716e+01));
    const double t50 = fma(t39, t49, 1.0e+00);
    const bool t51 = t35 > 2.5e-01;
    const double t52 = -t50;
    const double t53 = t51 ? t52 : t50;
    const double t54 = 5.0e-01 * t53;
    const double t55 = 5.0e-01 + t54;
    const double t56 = t26 * t55;
    const double t57 = options[15] + t56;
    const double t58 = 1.0e+00 / t1;
    const double t59 = t5 + t58;
    const double t60 = t6 ? options[18] : 1.0e+00;
    const double t61 = t59 / t60;
    const bool t62 = t61 < 1.0e+00;
    const double t63 = t62 ? t61 : 1.0e+00;
    const double t64 = t57 * t63;
    const double t65 = t6 ? t64 : t57;
    return t65;
}

DEVICE double schedule_factor(const int code, const double* options, const int64 epoch, const int64 minibatch, const int64 minibatches, const int64 fit_epochs) {
    switch (code) {
        case 3: return schedule_cosine(options, epoch, minibatch, minibatches, fit_epochs); break;
    }
    return 1.0;
}

DEVICE float averaged(const float average, const float w, const float decay, const float rest) {
    const float t1 = rest * w;
    const float t2 = fmaf(decay, average, t1);
    return t2;
}

DEVICE double clip_factor(const double norm, const double limit) {
    const double t1 = norm + 1.0e-06;
    const double t2 = limit / t1;
    const bool t3 = t2 < 1.0e+00;
    const double t4 = t3 ? t2 : 1.0e+00;
    const double t5 = norm - norm;
    const bool t6 = t5 == 0.0e+00;
    const double t7 = t6 ? t4 : 1.0e+00;
    return t7;
}

DEVICE void dropout_words(const uint64 four, const uint64 epoch, const uint64 layer, const uint64 unit, const uint64 key, uint64* words) {
    const uint64 t1 = layer << (uint64)0x8ull;
    const uint64 t2 = (uint64)0x6ull ^ t1;
    const uint64 t3 = four >> (uint64)0x20ull;
    const uint64 t4 = t3 << (uint64)0x18ull;
    const uint64 t5 = t2 ^ t4;
    const uint64 t6 = four & (uint64)0xffffffffull;
    const uint64 t7 = epoch & (uint64)0xffffffffull;
    const uint64 t8 = unit & (uint64)0xffffffffull;
    const uint64 t9 = t5 & (uint64)0xffffffffull;
    const uint64 t10 = key & (uint64)0xffffffffull;
    const uint64 t11 = key >> (uint64)0x20ull;
    const uint64 t12 = (uint64)0xd2511f53ull * t6;
    const uint64 t13 = (uint64)0xcd9e8d57ull * t8;
    const uint64 t14 = t13 >> (uint64)0x20ull;
    const uint64 t15 = t14 ^ t7;
    const uint64 t16 = t15 ^ t10;
    const uint64 t17 = t13 & (uint64)0xffffffffull;
    const uint64 t18 = t12 >> (uint64)0x20ull;
    const uint64 t19 = t18 ^ t9;
    const uint64 t20 = t19 ^ t11;
    const uint64 t21 = t12 & (uint64)0xffffffffull;
    const uint64 t22 = t10 + (uint64)0x9e3779b9ull;
    const uint64 t23 = t22 & (uint64)0xffffffffull;
    const uint64 t24 = t11 + (uint64)0xbb67ae85ull;
    const uint64 t25 = t24 & (uint64)0xffffffffull;
    const uint64 t26 = (uint64)0xd2511f53ull * t16;
    const uint64 t27 = (uint64)0xcd9e8d57ull * t20;
    const uint64 t28 = t27 >> (uint64)0x20ull;
    const uint64 t29 = t28 ^ t17;
    const uint64 t30 = t29 ^ t23;
    const uint64 t31 = t27 & (uint64)0xffffffffull;
    const uint64 t32 = t26 >> (uint64)0x20ull;
    const uint64 t33 = t32 ^ t21;
    const uint64 t34 = t33 ^ t25;
    const uint64 t35 = t26 & (uint64)0xffffffffull;
    const uint64 t36 = t23 + (uint64)0x9e3779b9ull;
    const uint64 t37 = t36 & (uint64)0xffffffffull;
    const uint64 t38 = t25 + (uint64)0xbb67ae85ull;
    const uint64 t39 = t38 & (uint64)0xffffffffull;
    const uint64 t40 = (uint64)0xd2511f53ull * t30;
    const uint64 t41 = (uint64)0xcd9e8d57ull * t34;
    const uint64 t42 = t41 >> (uint64)0x20ull;
    const uint64 t43 = t42 ^ t31;
    const uint64 t44 = t43 ^ t37;
    const uint64 t45 = t41 & (uint64)0xffffffffull;
    const uint64 t46 = t40 >> (uint64)0x20ull;
    const uint64 t47 = t46 ^ t35;
    const uint64 t48 = t47 ^ t39;
    const uint64 t49 = t40 & (uint64)0xffffffffull;
    const uint64 t50 = t37 + (uint64)0x9e3779b9ull;
    const uint64 t51 = t50 & (uint64)0xffffffffull;
    const uint64 t52 = t39 + (uint64)0xbb67ae85ull;
    const uint64 t53 = t52 & (uint64)0xffffffffull;
    const uint64 t54 = (uint64)0xd2511f53ull * t44;
    const uint64 t55 = (uint64)0xcd9e8d57ull * t48;
    const uint64 t56 = t55 >> (uint64)0x20ull;
    const uint64 t57 = t56 ^ t45;
    const uint64 t58 = t57 ^ t51;
    const uint64 t59 = t55 & (uint64)0xffffffffull;
    const uint64 t60 = t54 >> (uint64)0x20ull;
    const uint64 t61 = t60 ^ t49;
    const uint64 t62 = t61 ^ t53;
    const uint64 t63 = t54 & (uint64)0xffffffffull;
    const uint64 t64 = t51 + (uint64)0x9e3779b9ull;
    const uint64 t65 = t64 & (uint64)0xffffffffull;
    const uint64 t66 = t53 + (uint64)0xbb67ae85ull;
    const uint64 t67 = t66 & (uint64)0xffffffffull;
    const uint64 t68 = (uint64)0xd2511f53ull * t58;
    const uint64 t69 = (uint64)0xcd9e8d57ull * t62;
    const uint64 t70 = t69 >> (uint64)0x20ull;
    const uint64 t71 = t70 ^ t59;
    const uint64 t72 = t71 ^ t65;
    const uint64 t73 = t69 & (uint64)0xffffffffull;
    const uint64 t74 = t68 >> (uint64)0x20ull;
    const uint64 t75 = t74 ^ t63;
    const uint64 t76 = t75 ^ t67;
    const uint64 t77 = t68 & (uint64)0xffffffffull;
    const uint64 t78 = t65 + (uint64)0x9e3779b9ull;
    const uint64 t79 = t78 & (uint64)0xffffffffull;
    const uint64 t80 = t67 + (uint64)0xbb67ae85ull;
    const uint64 t81 = t80 & (uint64)0xffffffffull;
    const uint64 t82 = (uint64)0xd2511f53ull * t72;
    const uint64 t83 = (uint64)0xcd9e8d57ull * t76;
    const uint64 t84 = t83 >> (uint64)0x20ull;
    const uint64 t85 = t84 ^ t73;
    const uint64 t86 = t85 ^ t79;
    const uint64 t87 = t83 & (uint64)0xffffffffull;
    const uint64 t88 = t82 >> (uint64)0x20ull;
    const uint64 t89 = t88 ^ t77;
    const uint64 t90 = t89 ^ t81;
    const uint64 t91 = t82 & (uint64)0xffffffffull;
    const uint64 t92 = t79 + (uint64)0x9e3779b9ull;
    const uint64 t93 = t92 & (uint64)0xffffffffull;
    const uint64 t94 = t81 + (uint64)0xbb67ae85ull;
    const uint64 t95 = t94 & (uint64)0xffffffffull;
    const uint64 t96 = (uint64)0xd2511f53ull * t86;
    const uint64 t97 = (uint64)0xcd9e8d57ull * t90;
    const uint64 t98 = t97 >> (uint64)0x20ull;
    const uint64 t99 = t98 ^ t87;
    const uint64 t100 = t99 ^ t93;
    const uint64 t101 = t97 & (uint64)0xffffffffull;
    const uint64 t102 = t96 >> (uint64)0x20ull;
    const uint64 t103 = t102 ^ t91;
    const uint64 t104 = t103 ^ t95;
    const uint64 t105 = t96 & (uint64)0xffffffffull;
    const uint64 t106 = t93 + (uint64)0x9e3779b9ull;
    const uint64 t107 = t106 & (uint64)0xffffffffull;
    const uint64 t108 = t95 + (uint64)0xbb67ae85ull;
    const uint64 t109 = t108 & (uint64)0xffffffffull;
    const uint64 t110 = (uint64)0xd2511f53ull * t100;
    const uint64 t111 = (uint64)0xcd9e8d57ull * t104;
    const uint64 t112 = t111 >> (uint64)0x20ull;
    const uint64 t113 = t112 ^ t101;
    const uint64 t114 = t113 ^ t107;
    const uint64 t115 = t111 & (uint64)0xffffffffull;
    const uint64 t116 = t110 >> (uint64)0x20ull;
    const uint64 t117 = t116 ^ t105;
    const uint64 t118 = t117 ^ t109;
    const uint64 t119 = t110 & (uint64)0xffffffffull;
    const uint64 t120 = t107 + (uint64)0x9e3779b9ull;
    const uint64 t121 = t120 & (uint64)0xffffffffull;
    const uint64 t122 = t109 + (uint64)0xbb67ae85ull;
    const uint64 t123 = t122 & (uint64)0xffffffffull;
    const uint64 t124 = (uint64)0xd2511f53ull * t114;
    const uint64 t125 = (uint64)0xcd9e8d57ull * t118;
    const uint64 t126 = t125 >> (uint64)0x20ull;
    const uint64 t127 = t126 ^ t115;
    const uint64 t128 = t127 ^ t121;
    const uint64 t129 = t125 & (uint64)0xffffffffull;
    const uint64 t130 = t124 >> (uint64)0x20ull;
    const uint64 t131 = t130 ^ t119;
    const uint64 t132 = t131 ^ t123;
    const uint64 t133 = t124 & (uint64)0xffffffffull;
    const uint64 t134 = t121 + (uint64)0x9e3779b9ull;
    const uint64 t135 = t134 & (uint64)0xffffffffull;
    const uint64 t136 = t123 + (uint64)0xbb67ae85ull;
    const uint64 t137 = t136 & (uint64)0xffffffffull;
    const uint64 t138 = (uint64)0xd2511f53ull * t128;
    const uint64 t139 = (uint64)0xcd9e8d57ull * t132;
    const uint64 t140 = t139 >> (uint64)0x20ull;
    const uint64 t141 = t140 ^ t129;
    const uint64 t142 = t141 ^ t135;
    const uint64 t143 = t139 & (uint64)0xffffffffull;
    const uint64 t144 = t138 >> (uint64)0x20ull;
    const uint64 t145 = t144 ^ t133;
    const uint64 t146 = t145 ^ t137;
    const uint64 t147 = t138 & (uint64)0xffffffffull;
    const uint64 t148 = t135 + (uint64)0x9e3779b9ull;
    const uint64 t149 = t148 & (uint64)0xffffffffull;
    const uint64 t150 = t137 + (uint64)0xbb67ae85ull;
    const uint64 t151 = t150 & (uint64)0xffffffffull;
    words[0] = t142;
    words[1] = t143;
    words[2] = t146;
    words[3] = t147;
}
