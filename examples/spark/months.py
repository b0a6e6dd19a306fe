"""Mean high of each month, with Spark: `spark-submit months.py WEATHER TARGET`."""

import csv
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

source, target = sys.argv[1:]
spark = SparkSession.builder.appName("months").getOrCreate()
days = spark.read.csv(f"file://{source}", header=True, inferSchema=True)
months = (
    days.groupBy(f.substring("date", 6, 2).alias("month"))
    .agg(f.round(f.mean("temp_max"), 1).alias("high"), f.round(f.sum("precipitation"), 1).alias("rain_mm"))
    .orderBy("month")
)
with Path(target).open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(months.columns)
    table.writerows(months.collect())
spark.stop()
